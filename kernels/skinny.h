/* How the host launches a skinny product: its plan, grid, threads and shared memory. */
#ifndef SUR_KERNELS_SKINNY_H
#define SUR_KERNELS_SKINNY_H

#include "launch.h"

/* A tile is 16 rows: two groups of 8, which need not be neighbours (SWIGLU: one group of each of its two matrices).
 * Thread blocks are dealt groups, so none has more than 8 rows more than another. With fewer tiles than multiprocessors
 * there are only as many blocks as tiles: with one group per block most blocks would wait for those with two, and every
 * block reads the whole input. A slot holds 256 of k of a tile. */
enum {
    SUR_SKINNY_SLOT_BYTES = 8192,
    SUR_SKINNY_GROUP_BYTES = SUR_SKINNY_SLOT_BYTES / 2,
    SUR_SKINNY_WARPS = 12,
    SUR_SKINNY_SLOTS = 2,        /* per warp at most */
    SUR_SKINNY_SMALL_BYTES = 640 /* the slots' barriers, the columns' scales, the best four of each warp */
};

/* Fills *launch and p->skinny. Returns 0 if the sums of one tile do not fit into max_shared bytes (of a thread block)
 * beside the fewest slots; else 1. */
static inline int sur_gpu_skinny_plan(struct sur_gpu_product *p, int multiprocessors, int max_shared,
                                      struct sur_gpu_launch *launch)
{
    static const int slots_of[][2] = {
        {SUR_SKINNY_WARPS, SUR_SKINNY_SLOTS}, {SUR_SKINNY_WARPS, 1}, {8, 1}}; /* warps, slots */
    const int segments = (p->pitch + SUR_GPU_SEGMENT - 1) / SUR_GPU_SEGMENT, groups = (p->rows + 7) / 8;
    const int all = p->w_up ? groups : (groups + 1) / 2, grid = all < multiprocessors ? all : multiprocessors;
    const int tile_bytes = segments * 16 * p->n * 4;
    const int most = (groups + grid - 1) / grid, tiles = p->w_up ? most : (most + 1) / 2;
    int fixed = 0, together = 0, warps = 0, slots = 0;
    for (int i = 0; i < 3 && together < 1; i++) {
        warps = slots_of[i][0], slots = slots_of[i][1];
        fixed = warps * slots * SUR_SKINNY_SLOT_BYTES + SUR_SKINNY_SMALL_BYTES;
        together = max_shared < fixed + tile_bytes ? 0 : (max_shared - fixed) / tile_bytes;
    }
    if (together < 1) return 0;
    int ways = warps / segments;
    together = together < tiles ? together : tiles;
    ways = ways < 1 ? 1 : ways < together ? ways : together;
    if (together < tiles) together = together / ways * ways;
    p->skinny = (struct sur_gpu_skinny){.segments = segments,
                                        .ways = ways,
                                        .tiles_per_round = together,
                                        .warps = warps,
                                        .slots = slots,
                                        .rounds_dealt = groups / grid,
                                        .left_over = groups % grid,
                                        .deal_bytes = (uint32_t)p->pitch * 16 * (uint32_t)grid,
                                        .last_bytes = (uint32_t)(p->pitch - (segments - 1) * SUR_GPU_SEGMENT) * 16,
                                        .per_column = 1.0f / (float)p->n,
                                        .per_segment = (1 << 16) / segments + 1,
                                        .unused = 0};
    *launch = (struct sur_gpu_launch){
        {(unsigned)grid, 1, 1}, SUR_SKINNY_WARPS * 32, (unsigned)(fixed + together * tile_bytes)};
    return 1;
}

#endif
