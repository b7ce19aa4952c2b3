/* How the host launches the narrow product: shared memory in bytes, threads, stages, tiles a round. */
#ifndef SUR_KERNELS_NARROW_H
#define SUR_KERNELS_NARROW_H

#include "launch.h"

/* A tile is 16 rows: two groups of 8, which need not be neighbours (SWIGLU: a group of each of its two matrices).
 * Blocks are dealt groups, so that none has more than 8 rows more than another. A stage is 64 of k of a tile; each warp
 * has 8 or 4. */
enum { SUR_NARROW_STAGE_BYTES = 2048, SUR_NARROW_MAX_WARPS = 12, SUR_NARROW_MIN_WARPS = 4 };

/* Shared memory: each warp's stages, the split input, the segments' sums of two rounds, a few numbers more. */
static inline int64_t sur_gpu_narrow_shared(const struct sur_gpu_product *p, int warps, int stages)
{
    int64_t input = 2 * (int64_t)p->n * (p->pitch + 8) * 2;
    int64_t sums = 2 * (int64_t)p->narrow.tiles_a_round * p->narrow.segments * 16 * p->n * 4;
    return (int64_t)warps * stages * SUR_NARROW_STAGE_BYTES + input + sums + 1024;
}

/* Fills launch, p->narrow and *stages (the kernel's suffix, 8 or 4); 0 when n columns do not fit into max_shared bytes.
 * 8 stages a warp where 8 warps with that many fit, else 4; as many warps as fit, or a few less if fewer then idle at
 * the end. A norm takes 256 threads. */
static inline int sur_gpu_narrow_plan(struct sur_gpu_product *p, int multiprocessors, int max_shared,
                                      struct sur_gpu_launch *launch, int *stages)
{
    int groups = (p->rows + 7) / 8, grid = groups < multiprocessors ? groups : multiprocessors, found = 0;
    int segments = (p->pitch + SUR_GPU_SEGMENT - 1) / SUR_GPU_SEGMENT, together = 24 / segments + 1;
    int most = (groups + grid - 1) / grid, tiles = p->w_up ? most : (most + 1) / 2;
    double best = 0;
    p->narrow = (struct sur_gpu_narrow){.tile_bytes = (uint32_t)grid * (p->w_up ? 8 : 16) * (uint32_t)p->pitch * 2,
                                        .segments = segments,
                                        .n_units = tiles * segments,
                                        .tiles = tiles,
                                        .tiles_a_round = together < tiles ? together : tiles,
                                        .a_segment = 1.0f / (float)segments,
                                        .a_column = 1.0f / (float)p->n,
                                        .a_piece = 8.0f / (float)p->pitch};
    *stages = sur_gpu_narrow_shared(p, 8, 8) <= max_shared ? 8 : 4;
    for (int warps = p->in.norm ? 8 : SUR_NARROW_MIN_WARPS; warps <= SUR_NARROW_MAX_WARPS; warps++) {
        int64_t shared = sur_gpu_narrow_shared(p, warps, *stages);
        if (shared > max_shared) break;
        int turns = (tiles * segments + warps - 1) / warps;
        double value = (double)tiles * segments / ((double)turns * warps) - 0.04 * (SUR_NARROW_MAX_WARPS - warps);
        if (found && value <= best) continue;
        found = 1;
        best = value;
        *launch = (struct sur_gpu_launch){{(unsigned)grid, 1, 1}, (unsigned)warps * 32, (unsigned)shared};
    }
    return found;
}

#endif
