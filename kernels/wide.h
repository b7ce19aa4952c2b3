/* Tiles of the wide product, and which one a product gets. Read by nvcc and by the C compiler.
 *
 * A kernel's name is k_wide_<epilogue> (plain, gelu, add, swiglu, qkv, rows) followed by its tile's suffix. Every tile
 * gives the same bits; the choice is one of speed alone. A launch: sur_gpu_wide_choose, its tile's threads and
 * shared_bytes, sur_gpu_wide_grid; the parameter is the product, or with a cluster what sur_gpu_wide_maps makes of it.
 */
#ifndef SUR_KERNELS_WIDE_H
#define SUR_KERNELS_WIDE_H

#include <stdbool.h>

#include "launch.h"

/* X(rows, columns, warps along the rows, along the columns, stages, blocks an SM, inner, outer).
 * Rows are those of the product; SWIGLU halves them: half of w, half of w_up.
 * inner: clocks that an SM needs for 16 k of the tile, the larger of the tensor cores' (8 mma in 13 clocks) and the
 * shared memory's (128 bytes a clock: fragments and the tile's own arrival). outer: clocks of the second-level cache's
 * share of one SM (30 bytes a clock) for the same 16 k. Estimates of a 9.0; they only rank the tiles. */
#define SUR_GPU_WIDE_TILES(X)                                                                                          \
    X(192, 64, 4, 2, 4, 1, 307, 341)                                                                                   \
    X(128, 64, 2, 2, 3, 2, 205, 273)                                                                                   \
    X(64, 64, 2, 2, 4, 2, 144, 205)                                                                                    \
    X(32, 64, 1, 4, 4, 2, 104, 170)

/* X(rows, columns, stages, cluster, inner, outer): wgmma, for 9.0 alone (wide_tma.cu). cluster: thread blocks along the
 * rows that share their columns' copies. */
#define SUR_GPU_TMA_TILES(X)                                                                                           \
    X(192, 128, 4, 2, 384, 341)                                                                                        \
    X(128, 128, 4, 2, 256, 273)                                                                                        \
    X(128, 64, 6, 2, 128, 205)                                                                                         \
    X(64, 128, 5, 4, 128, 137)

struct sur_gpu_wide_tile {
    const char *suffix; /* "_192x64", "_tma_192x128" */
    int32_t rows, columns, threads;
    uint32_t shared_bytes; /* dynamic; above 48 KB the function's limit has to be raised first */
    int32_t cluster;       /* 0: no such copies */
    int32_t inner, outer;
};

enum {
#define SUR_GPU_WIDE_NAME(r, c, wr, wc, stages, blocks, inner, outer) SUR_GPU_WIDE_##r##x##c,
#define SUR_GPU_TMA_NAME(r, c, stages, cluster, inner, outer)         SUR_GPU_TMA_##r##x##c,
    SUR_GPU_WIDE_TILES(SUR_GPU_WIDE_NAME) SUR_GPU_TMA_TILES(SUR_GPU_TMA_NAME)
#undef SUR_GPU_WIDE_NAME
#undef SUR_GPU_TMA_NAME
        SUR_GPU_N_WIDE
};

static inline struct sur_gpu_wide_tile sur_gpu_wide_tile_at(int i)
{
    static const struct sur_gpu_wide_tile tiles[SUR_GPU_N_WIDE] = {
#define SUR_GPU_WIDE_ROW(r, c, wr, wc, stages, blocks, inner, outer)                                                   \
    {"_" #r "x" #c, r, c, 32 * wr * wc, (stages) * (r + 2 * c) * 2 * SUR_GPU_PITCH, 0, inner, outer},
#define SUR_GPU_TMA_ROW(r, c, stages, cluster, inner, outer) /* stages, two barriers each, room to align them */       \
    {"_tma_" #r "x" #c, r,     c,    2 * r + 32, (stages) * ((r + 2 * c) * 2 * SUR_GPU_PITCH + 16) + 1024,             \
     cluster,           inner, outer},
        SUR_GPU_WIDE_TILES(SUR_GPU_WIDE_ROW) SUR_GPU_TMA_TILES(SUR_GPU_TMA_ROW)
#undef SUR_GPU_WIDE_ROW
#undef SUR_GPU_TMA_ROW
    };
    return tiles[i];
}

/* Columns of blocks, then rows of blocks: neighbours in launch order share their weights. */
static inline void sur_gpu_wide_grid(const struct sur_gpu_product *p, int tile, unsigned grid[2])
{
    struct sur_gpu_wide_tile t = sur_gpu_wide_tile_at(tile);
    int rows = p->w_up ? t.rows / 2 : t.rows, blocks = (p->rows + rows - 1) / rows;
    if (t.cluster) blocks = (blocks + t.cluster - 1) / t.cluster * t.cluster;
    grid[0] = (unsigned)((p->n + t.columns - 1) / t.columns);
    grid[1] = (unsigned)blocks;
}

/* encode: cuTensorMapEncodeTiled for a matrix [rows][pitch] of bf16 and boxes of box_rows lines of 128 bytes, swizzled
 * by 128 bytes. 0, or what it returned. */
static inline int sur_gpu_wide_maps(struct sur_gpu_wide_tma *maps, const struct sur_gpu_product *p, int tile,
                                    int (*encode)(struct sur_gpu_map *map, sur_gpu_ptr matrix, int rows, int pitch,
                                                  int box_rows))
{
    struct sur_gpu_wide_tile t = sur_gpu_wide_tile_at(tile);
    maps->product = *p;
    int r = encode(&maps->w, p->w, p->rows, p->pitch, p->w_up ? 8 : t.rows);
    if (!r && p->w_up) r = encode(&maps->w_up, p->w_up, p->rows, p->pitch, 8);
    if (!r) r = encode(&maps->hi, p->hi, p->n, p->pitch, t.columns / t.cluster);
    if (!r) r = encode(&maps->lo, p->lo, p->n, p->pitch, t.columns / t.cluster);
    return r;
}

/* The tile with the least estimate among those that fit in shared_limit bytes a block (of which 98304 suffice for all
 * but the largest) and, without tma, need no such copies. */
static inline int sur_gpu_wide_choose(const struct sur_gpu_product *p, int n_multiprocessors, uint32_t shared_limit,
                                      bool tma)
{
    int best = SUR_GPU_WIDE_32x64;
    int64_t least = INT64_MAX;
    for (int i = 0; i < SUR_GPU_N_WIDE; i++) {
        struct sur_gpu_wide_tile t = sur_gpu_wide_tile_at(i);
        if (t.shared_bytes > shared_limit || (t.cluster && !tma)) continue;
        unsigned grid[2];
        sur_gpu_wide_grid(p, i, grid);
        int64_t n = (int64_t)grid[0] * grid[1], rounds = (n + n_multiprocessors - 1) / n_multiprocessors;
        int64_t inner = rounds * t.inner, outer = n * t.outer / n_multiprocessors;
        int64_t cost = inner > outer ? inner : outer;
        if (cost < least) least = cost, best = i;
    }
    return best;
}

#endif
