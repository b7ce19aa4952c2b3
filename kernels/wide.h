/* Tiles of the wide product, and which one a product gets. Read by nvcc and by the C compiler.
 *
 * A kernel's name is k_wide_<epilogue> (plain, gelu, add, swiglu, qkv, rows) followed by its tile's suffix. Every tile
 * gives the same bits; the choice is one of speed alone. A launch: sur_gpu_wide_choose, its tile's threads and
 * shared_bytes, sur_gpu_wide_grid. */
#ifndef SUR_KERNELS_WIDE_H
#define SUR_KERNELS_WIDE_H

#include "launch.h"

/* X(rows, columns, warps along the rows, along the columns, stages, blocks an SM, inner, outer).
 * Rows are those of the product; SWIGLU halves them: half of w, half of w_up.
 * inner: clocks that an SM needs for 16 k of the tile, the larger of the tensor cores' (8 mma in 13 clocks) and the
 * shared memory's (128 bytes a clock: fragments and the tile's own arrival). outer: clocks of the second-level cache's
 * share of one SM (30 bytes a clock) for the same 16 k. Estimates of a 9.0; they only rank the tiles. */
#define SUR_GPU_WIDE_TILES(X)                                                                                          \
    X(192, 64, 4, 2, 4, 1, 307, 341)                                                                                   \
    X(128, 64, 2, 2, 3, 2, 205, 240)                                                                                   \
    X(64, 64, 2, 2, 4, 2, 144, 205)                                                                                    \
    X(32, 64, 1, 4, 4, 2, 104, 170)

struct sur_gpu_wide_tile {
    const char *suffix; /* "_192x64" */
    int32_t rows, columns, threads;
    uint32_t shared_bytes; /* dynamic, beside 256 static; above 48 KB the function's limit has to be raised first */
    int32_t inner, outer;
};

enum {
#define SUR_GPU_WIDE_NAME(r, c, wr, wc, stages, blocks, inner, outer) SUR_GPU_WIDE_##r##x##c,
    SUR_GPU_WIDE_TILES(SUR_GPU_WIDE_NAME)
#undef SUR_GPU_WIDE_NAME
        SUR_GPU_N_WIDE
};

static inline struct sur_gpu_wide_tile sur_gpu_wide_tile_at(int i)
{
    static const struct sur_gpu_wide_tile tiles[SUR_GPU_N_WIDE] = {
#define SUR_GPU_WIDE_ROW(r, c, wr, wc, stages, blocks, inner, outer)                                                   \
    {"_" #r "x" #c, r, c, 32 * wr * wc, (stages) * (r + 2 * c) * 2 * SUR_GPU_PITCH, inner, outer},
        SUR_GPU_WIDE_TILES(SUR_GPU_WIDE_ROW)
#undef SUR_GPU_WIDE_ROW
    };
    return tiles[i];
}

/* Columns of blocks, then rows of blocks: neighbours in launch order share their weights. */
static inline void sur_gpu_wide_grid(const struct sur_gpu_product *p, int tile, unsigned grid[2])
{
    struct sur_gpu_wide_tile t = sur_gpu_wide_tile_at(tile);
    int rows = p->w_up ? t.rows / 2 : t.rows;
    grid[0] = (unsigned)((p->n + t.columns - 1) / t.columns);
    grid[1] = (unsigned)((p->rows + rows - 1) / rows);
}

/* The tile with the least estimate among those that fit in shared_limit bytes a block (of which 98304 suffice for all
 * but the largest). */
static inline int sur_gpu_wide_choose(const struct sur_gpu_product *p, int n_multiprocessors, uint32_t shared_limit)
{
    int best = SUR_GPU_WIDE_32x64;
    int64_t least = INT64_MAX;
    for (int i = 0; i < SUR_GPU_N_WIDE; i++) {
        struct sur_gpu_wide_tile t = sur_gpu_wide_tile_at(i);
        if (t.shared_bytes > shared_limit) continue;
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
