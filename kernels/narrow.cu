/* The narrow product as a kernel of its own; its parts are in narrow.cuh. */
#include "narrow.cuh"

/* STAGES: 8 keep two units a warp under way, nearly all of a large multiprocessor's shared memory; 4 where that is not
 * there. Either way a multiprocessor holds one block, and the next kernel's block begins to fetch as soon as this one
 * leaves: what it has fetched by the time it may read its input covers the gap between two kernels.
 * This function is long: it is one pipeline, whose steps share nearly all that it holds. */
template <int EPILOGUE, int STAGES> static __device__ void narrow(const sur_gpu_product &p)
{
    constexpr int STAGE_BYTES = SUR_NARROW_STAGE_BYTES;
    constexpr bool deep = STAGES == 8;
    extern __shared__ __align__(1024) char shared[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int segments = sur_gpu_narrow_segments(&p), tiles = sur_gpu_narrow_tiles(&p, gridDim.x);
    const int n_units = tiles * segments, units_a_round = p.tiles_a_round * segments, unit_size = 16 * p.n;
    const int column = p.pitch + 8;
    __nv_bfloat16 *hi = (__nv_bfloat16 *)(shared + warps * STAGES * STAGE_BYTES), *lo = hi + (size_t)p.n * column;
    char *zeros = (char *)(lo + (size_t)p.n * column);
    float *room = (float *)(zeros + 16); /* [4][8] for norms, [12][4] of 8 bytes for the best */
    float *sums = room + 248;

    const uint32_t stages = shared_address(shared) + warp * STAGES * STAGE_BYTES;
    const uint32_t to = stages + lane / 8 * 128 + ((lane % 8 ^ lane / 8) << 4);
    const size_t four_rows = (size_t)p.pitch * 8;
    unit now = {warp, warp / segments, warp % segments, 0, 0, NULL, NULL}, next;
    if (warp < n_units) now.aim<EPILOGUE>(p);
    for (int step = 0; step < (deep ? 4 : 3); step++) now.copy(step, to + step * STAGE_BYTES, four_rows);
    if (deep) {
        next = now;
        next.next<EPILOGUE>(p, segments, n_units);
    }
    if (p.in.norm)
        for (int i = threadIdx.x * 32; i < p.in.norm_k; i += blockDim.x * 32) prefetch(at<const float>(p.in.norm) + i);
    wait_for_previous();
    let_next_start();
    int64_t first = p.out.position ? *at<const int64_t>(p.out.position) : 0;
    if (threadIdx.x < 4) ((uint32_t *)zeros)[threadIdx.x] = 0;
    read_input<EPILOGUE>(p, hi, lo, room);
    if (deep) /* only now: the input would wait behind them */
        for (int step = 0; step < 3; step++) next.copy(step, to + (4 + step) * STAGE_BYTES, four_rows);
    task_input early = {0, 0, 0, {1, 0}};
    int e_local, e_r, e_row, e_c;
    if (task_at<EPILOGUE>(p, 0, tiles, threadIdx.x, e_local, e_r, e_row, e_c))
        early = load_task<EPILOGUE>(p, e_row, e_c);
    __syncthreads();

    /* lanes 0 to 15 point at the high half of their column, 16 to 31 at the low one; 8 to 15 and 24 to 31 8 of k on */
    const int m = lane / 8, r = lane % 8;
    const uint32_t mask = r < p.n ? ~0u : 0;
    const uint32_t input =
        mask ? shared_address((m >> 1 ? lo : hi) + (size_t)r * column + (m & 1) * 8) : shared_address(zeros);
    const uint32_t weights = stages + ((m & 1) * 8 + r) * 128 + (((m >> 1) ^ r) << 4);
    uint32_t here = 0, there = 4 * STAGE_BYTES; /* the stages of this unit and, when deep, of the next */
    for (int round = 0; round * units_a_round < n_units; round++) {
        float *part = sums + (size_t)(round & 1) * units_a_round * unit_size;
        const int round_end = (round + 1) * units_a_round;
        while (now.number < n_units && now.number < round_end) {
            float sum[4] = {0};
            const uint32_t x = input + (now.segment * SUR_GPU_SEGMENT * 2 & mask);
            unit last = deep ? next : now; /* the one after those under way */
            last.next<EPILOGUE>(p, segments, n_units);
#pragma unroll
            for (uint32_t step = 0; step < 4; step++) {
                copy_wait<STAGES - 2>();
                __syncwarp();
                if (step > 0)
                    last.copy(step - 1, to + here + (step - 1) * STAGE_BYTES, four_rows);
                else if (deep)
                    next.copy(3, to + there + 3 * STAGE_BYTES, four_rows);
                else
                    now.copy(3, to + 3 * STAGE_BYTES, four_rows);
                if (step < now.steps) multiply(sum, weights + here + step * STAGE_BYTES, x + (step * 128 & mask), mask);
            }
            float *to_unit = part + (size_t)(now.number - round * units_a_round) * unit_size + lane / 4 * p.n;
            for (int i = 0; i < 2; i++) {
                int c = lane % 4 * 2 + i;
                if (c < p.n) to_unit[c] = sum[i], to_unit[8 * p.n + c] = sum[2 + i];
            }
            now = deep ? next : last;
            if (deep) next = last, here ^= 4 * STAGE_BYTES, there ^= 4 * STAGE_BYTES;
        }
        __syncthreads();
        finish_round<EPILOGUE>(p, part, round, segments, tiles, first, early);
    }
    if (EPILOGUE == SUR_GPU_HEAD) {
        __syncthreads();
        best_four(p, tiles, (unsigned long long *)(((uintptr_t)room + 7) & ~(uintptr_t)7));
    }
}

#define NARROW(name, epilogue, stages)                                                                                 \
    extern "C" __global__ void __launch_bounds__(384, 1)                                                               \
        k_narrow_##name##_##stages(const __grid_constant__ sur_gpu_product p)                                          \
    {                                                                                                                  \
        narrow<epilogue, stages>(p);                                                                                   \
    }
#define NARROW_STAGES(stages)                                                                                          \
    NARROW(plain, SUR_GPU_PLAIN, stages)                                                                               \
    NARROW(gelu, SUR_GPU_GELU, stages)                                                                                 \
    NARROW(add, SUR_GPU_ADD, stages)                                                                                   \
    NARROW(swiglu, SUR_GPU_SWIGLU, stages)                                                                             \
    NARROW(qkv, SUR_GPU_QKV, stages)                                                                                   \
    NARROW(rows, SUR_GPU_ROWS, stages)                                                                                 \
    NARROW(head, SUR_GPU_HEAD, stages)
NARROW_STAGES(8)
NARROW_STAGES(4)
