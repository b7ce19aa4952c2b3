/* How the host launches the narrow product: shared memory in bytes, threads, tiles a round. */
#ifndef SUR_KERNELS_NARROW_H
#define SUR_KERNELS_NARROW_H

#include "launch.h"

/* A tile is 16 rows: two groups of 8, which need not be neighbours (SWIGLU: a group of each of its two matrices). Blocks
 * are dealt groups, so that none has more than 8 rows more than another. A stage is 64 of k of a tile. */
enum { SUR_NARROW_STAGES = 4, SUR_NARROW_STAGE_BYTES = 2048, SUR_NARROW_MAX_WARPS = 12, SUR_NARROW_MIN_WARPS = 4 };

SUR_GPU_BOTH int sur_gpu_narrow_groups(const struct sur_gpu_product *p)
{
    return (p->rows + 7) / 8;
}

/* Tiles of the block that has most. */
SUR_GPU_BOTH int sur_gpu_narrow_tiles(const struct sur_gpu_product *p, int grid)
{
    int groups = (sur_gpu_narrow_groups(p) + grid - 1) / grid;
    return p->w_up ? groups : (groups + 1) / 2;
}

SUR_GPU_BOTH int sur_gpu_narrow_segments(const struct sur_gpu_product *p)
{
    return (p->pitch + SUR_GPU_SEGMENT - 1) / SUR_GPU_SEGMENT;
}

/* Shared memory: each warp's stages, the split input, the segments' sums of two rounds, a few numbers more. */
static inline int64_t sur_gpu_narrow_shared(const struct sur_gpu_product *p, int warps, int tiles)
{
    int64_t stages = (int64_t)warps * SUR_NARROW_STAGES * SUR_NARROW_STAGE_BYTES;
    int64_t input = 2 * (int64_t)p->n * (p->pitch + 8) * 2 + 16;
    int64_t sums = 2 * (int64_t)tiles * sur_gpu_narrow_segments(p) * 16 * p->n * 4;
    return stages + input + sums + 1024;
}

/* Fills launch and p->tiles_a_round; 0 when n columns do not fit into max_shared bytes. Searches the shape that leaves
 * the fewest warps idle, then one that stays under `good_shared` (half a multiprocessor's, so that the next kernel can
 * start beside it), then the one nearest to 12 warps. */
static inline int sur_gpu_narrow_plan(struct sur_gpu_product *p, int multiprocessors, int max_shared, int good_shared,
                                      struct sur_gpu_launch *launch)
{
    int groups = sur_gpu_narrow_groups(p), grid = groups < multiprocessors ? groups : multiprocessors, found = 0;
    int mine = sur_gpu_narrow_tiles(p, grid), segments = sur_gpu_narrow_segments(p);
    double best = 0;
    for (int warps = p->in.norm ? 8 : SUR_NARROW_MIN_WARPS; warps <= SUR_NARROW_MAX_WARPS; warps++)
        for (int t = 1; t <= mine && t <= 8; t++) {
            int64_t shared = sur_gpu_narrow_shared(p, warps, t);
            if (shared > max_shared) continue;
            int rounds = (mine + t - 1) / t, turns = rounds * ((t * segments + warps - 1) / warps);
            double useful = (double)mine * segments / ((double)turns * warps);
            double value = useful - (shared > good_shared ? 0.2 : 0) - 0.01 * (warps > 12 ? warps - 12 : 12 - warps) +
                           0.002 * t;
            if (found && value <= best) continue;
            found = 1;
            best = value;
            p->tiles_a_round = t;
            *launch = (struct sur_gpu_launch){{(unsigned)grid, 1, 1}, (unsigned)warps * 32, (unsigned)shared};
        }
    return found;
}

#endif
