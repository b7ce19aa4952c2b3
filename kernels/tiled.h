/* The tiles of the tiled product, and the choice among them. Read by nvcc and by the C compiler.
 *
 * A kernel's name is k_tiled_<epilogue> (gelu, add, swiglu, qkv, rows) followed by its tile's suffix. Every tile
 * gives the same bits; the choice is one of speed alone. A launch: sur_gpu_tile_choose, its tile's threads and
 * shared_bytes, sur_gpu_tile_grid. */
#ifndef SUR_KERNELS_TILED_H
#define SUR_KERNELS_TILED_H

#include "launch.h"

/* X(rows, columns, warps along the rows, warps along the columns, stages, blocks per multiprocessor, one, two).
 * Rows are those of the product; with SWIGLU half of them are of w and half of w_up.
 * one, two: clocks per 16 of k with one thread block per multiprocessor, or with two. Measured on 9.0; they only rank
 * the tiles.
 */
#define SUR_GPU_TILES(X)                                                                                               \
    X(192, 64, 4, 2, 4, 1, 430, 430)                                                                                   \
    X(96, 64, 2, 2, 3, 2, 273, 422)                                                                                    \
    X(80, 64, 1, 4, 4, 2, 252, 393)                                                                                    \
    X(64, 64, 2, 2, 4, 2, 205, 355)                                                                                    \
    X(32, 64, 1, 4, 4, 2, 125, 230)

struct sur_gpu_tile {
    const char *suffix; /* "_192x64" */
    int32_t rows, columns, threads;
    uint32_t shared_bytes; /* dynamic, besides 256 static; above 48 KB the kernel's limit must be raised first */
    int32_t blocks, one, two;
};

enum {
#define SUR_GPU_TILE_NAME(r, c, wr, wc, stages, blocks, one, two) SUR_GPU_TILE_##r##x##c,
    SUR_GPU_TILES(SUR_GPU_TILE_NAME)
#undef SUR_GPU_TILE_NAME
        SUR_GPU_N_TILES
};

static inline struct sur_gpu_tile sur_gpu_tile_at(int i)
{
    static const struct sur_gpu_tile tiles[SUR_GPU_N_TILES] = {
#define SUR_GPU_TILE_ROW(r, c, wr, wc, stages, blocks, one, two)                                                       \
    {"_" #r "x" #c, r, c, 32 * wr * wc, (stages) * (r + 2 * c) * 2 * SUR_GPU_PITCH, blocks, one, two},
        SUR_GPU_TILES(SUR_GPU_TILE_ROW)
#undef SUR_GPU_TILE_ROW
    };
    return tiles[i];
}

/* x counts along the columns, so that neighbours in launch order share their weights. */
static inline void sur_gpu_tile_grid(const struct sur_gpu_product *p, int tile, unsigned grid[2])
{
    struct sur_gpu_tile t = sur_gpu_tile_at(tile);
    int rows = p->w_up ? t.rows / 2 : t.rows;
    grid[0] = (unsigned)((p->n + t.columns - 1) / t.columns);
    grid[1] = (unsigned)((p->rows + rows - 1) / rows);
}

/* Returns the tile with the lowest estimated time among those that fit into shared_limit bytes per thread block (98304
 * suffice for the smaller ones). The estimate counts rounds of as many thread blocks as run at once, a last round of
 * the rest, and a fixed cost per round. */
static inline int sur_gpu_tile_choose(const struct sur_gpu_product *p, int n_multiprocessors, uint32_t shared_limit)
{
    enum { START_AND_END = 8000 };
    const int64_t steps = p->pitch / 16;
    int best = SUR_GPU_TILE_32x64;
    int64_t least = INT64_MAX;
    for (int i = 0; i < SUR_GPU_N_TILES; i++) {
        struct sur_gpu_tile t = sur_gpu_tile_at(i);
        if (t.shared_bytes > shared_limit) continue;
        unsigned grid[2];
        sur_gpu_tile_grid(p, i, grid);
        const int64_t n = (int64_t)grid[0] * grid[1], at_once = (int64_t)n_multiprocessors * t.blocks;
        const int64_t left = n % at_once, last = steps * (left > n_multiprocessors ? t.two : t.one) + START_AND_END;
        const int64_t cost = n / at_once * (steps * t.two + START_AND_END) + (left ? last : 0);
        if (cost < least) least = cost, best = i;
    }
    return best;
}

#endif
