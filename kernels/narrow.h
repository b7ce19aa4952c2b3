/* How the host launches the narrow product: shared memory in bytes, threads, tiles a round. */
#ifndef SUR_KERNELS_NARROW_H
#define SUR_KERNELS_NARROW_H

#include "launch.h"

/* Rows of weights a warp takes at once: 16, or 8 where 16 would leave multiprocessors without work (not for SWIGLU,
 * whose tiles are 8 rows of each of its two matrices). Stages: 64 of k a stage, 6 or 7 KB in flight a warp. */
enum { SUR_NARROW_STAGES_16 = 4, SUR_NARROW_STAGES_8 = 8, SUR_NARROW_MAX_WARPS = 16, SUR_NARROW_MIN_WARPS = 4 };

SUR_GPU_BOTH int sur_gpu_narrow_tiles(const struct sur_gpu_product *p, int rows_a_tile)
{
    int rows = p->w_up ? rows_a_tile / 2 : rows_a_tile;
    return (p->rows + rows - 1) / rows;
}

SUR_GPU_BOTH int sur_gpu_narrow_segments(const struct sur_gpu_product *p)
{
    return (p->pitch + SUR_GPU_SEGMENT - 1) / SUR_GPU_SEGMENT;
}

/* Shared memory: each warp's stages, the split input, the segments' sums of two rounds, a few numbers more. */
static inline int64_t sur_gpu_narrow_shared(const struct sur_gpu_product *p, int rows_a_tile, int warps, int tiles)
{
    int64_t stages = (int64_t)warps * SUR_NARROW_STAGES_16 * 16 * 128;
    int64_t input = 2 * (int64_t)p->n * (p->pitch + 8) * 2 + 16;
    int64_t sums = 2 * (int64_t)tiles * sur_gpu_narrow_segments(p) * rows_a_tile * p->n * 4;
    return stages + input + sums + 1536;
}

/* Fills launch and p->tiles_a_round; 0 when n columns do not fit into max_shared bytes. Searches the shape that leaves
 * the fewest warps idle, then the one that stays under `good_shared` (half a multiprocessor's, so that the next kernel
 * can start beside it), then the one nearest to 12 warps. */
static inline int sur_gpu_narrow_plan(struct sur_gpu_product *p, int rows_a_tile, int multiprocessors, int max_shared,
                                      int good_shared, struct sur_gpu_launch *launch)
{
    int tiles = sur_gpu_narrow_tiles(p, rows_a_tile), segments = sur_gpu_narrow_segments(p);
    int grid = tiles < multiprocessors ? tiles : multiprocessors, mine = (tiles + grid - 1) / grid, found = 0;
    double best = 0;
    for (int warps = p->in.norm ? 8 : SUR_NARROW_MIN_WARPS; warps <= SUR_NARROW_MAX_WARPS; warps++)
        for (int t = 1; t <= mine && t <= 8; t++) {
            int64_t shared = sur_gpu_narrow_shared(p, rows_a_tile, warps, t);
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
