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
    DYNAMIC_SHARED(shared, 1024);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32, unit_size = 16 * p.n;
    const uint32_t stages = shared_address(shared) + warp * STAGES * STAGE_BYTES;
    const uint32_t to = kept(stages + lane / 8 * 128 + ((lane % 8 ^ lane / 8) << 4)), to_4 = kept((to ^ 64) + 512);
    const size_t lane_at = (size_t)((blockIdx.x * 8 + lane / 8) * p.pitch + lane % 8 * 8) * 2;
    const char *first_piece = kept(at<const char>(p.w) + lane_at);
    const int64_t four_rows = kept((int64_t)p.pitch * 8);
    const int64_t up = kept(EPILOGUE == SUR_GPU_SWIGLU ? (int64_t)(p.w_up - p.w) : (int64_t)gridDim.x * p.pitch * 16);
    unit now, next;
    now.aim<EPILOGUE>(p, first_piece, up, warp);
#pragma unroll
    for (int s = 0; s < (deep ? 4 : 3); s++) now.copy(s, to + s * STAGE_BYTES, to_4 + s * STAGE_BYTES, four_rows);
    if (deep) next.aim<EPILOGUE>(p, first_piece, up, warp + warps);

    __nv_bfloat16 *hi = (__nv_bfloat16 *)(shared + warps * STAGES * STAGE_BYTES), *lo = hi + p.n * (p.pitch + 8);
    float *room = (float *)(lo + p.n * (p.pitch + 8)); /* [4][8] for norms, [12][4] of 8 bytes for the best */
    float *sums = room + 248;
    if (p.in.norm && threadIdx.x * 32 < p.in.norm_k) prefetch(at<const float>(p.in.norm) + threadIdx.x * 32);
    wait_for_previous();
    let_next_start();
    const int64_t first = p.out.position ? *at<const int64_t>(p.out.position) : 0;
    read_input<EPILOGUE>(p, hi, lo, room);
#pragma unroll
    for (int s = 4; deep && s < 7; s++) /* only now: the input would wait behind them */
        next.copy(s - 4, to + s * STAGE_BYTES, to_4 + s * STAGE_BYTES, four_rows);
    task_input early = load_early<EPILOGUE>(p, 0, threadIdx.x);
    __syncthreads();

    /* lanes 0 to 15 point at the high half of their column, 16 to 31 at the low one; 8 to 15 and 24 to 31 8 of k on;
     * those of columns that do not exist at the first, whose sums in their place are dropped */
    const int m = lane / 8, r = lane % 8;
    const uint32_t input = kept(shared_address((m >> 1 ? lo : hi) + (r < p.n ? r : 0) * (p.pitch + 8) + (m & 1) * 8));
    uint32_t weights[4];
#pragma unroll
    for (int s = 0; s < 4; s++) weights[s] = kept(stages + ((m & 1) * 8 + r) * 128 + ((2 * s + (m >> 1) ^ r) << 4));
    uint32_t here = 0, there = 4 * STAGE_BYTES; /* the stages of this unit and, when deep, of the next */
    const int n_units = p.narrow.n_units, units_a_round = p.narrow.tiles_a_round * p.narrow.segments;
    int turn = threadIdx.x; /* another warp begins each round */
    for (int round = 0; round * units_a_round < n_units; round++) {
        float *part = sums + (round & 1) * units_a_round * unit_size;
        const int round_end = min((round + 1) * units_a_round, n_units);
        while (now.number < round_end) {
            float sum[4] = {0};
            const uint32_t x = input + now.segment * (SUR_GPU_SEGMENT * 2);
            const int steps = now.low_steps;
            unit last; /* the one after those under way */
            last.aim<EPILOGUE>(p, first_piece, up, now.number + (deep ? 2 : 1) * warps);
#pragma unroll
            for (uint32_t s = 0; s < 4; s++) {
                copy_wait<STAGES - 2>();
                __syncwarp();
                const uint32_t spent = s > 0 ? here + (s - 1) * STAGE_BYTES : (deep ? there : 0) + 3 * STAGE_BYTES;
                (s > 0 ? last : deep ? next : now).copy((s + 3) % 4, to + spent, to_4 + spent, four_rows);
                if (s < steps) multiply(sum, weights, here + s * STAGE_BYTES, x + s * 128);
            }
            float *to_unit = part + (now.number - round * units_a_round) * unit_size + lane / 4 * p.n;
            for (int i = 0; i < 2; i++) {
                int c = lane % 4 * 2 + i;
                if (c < p.n) to_unit[c] = sum[i], to_unit[8 * p.n + c] = sum[2 + i];
            }
            now = deep ? next : last;
            if (deep) next = last, here ^= 4 * STAGE_BYTES, there ^= 4 * STAGE_BYTES;
        }
        __syncthreads();
        finish_round<EPILOGUE>(p, part, round, turn, first, early);
        turn = turn >= 32 ? turn - 32 : turn + (int)blockDim.x - 32;
        early = load_early<EPILOGUE>(p, round + 1, turn);
    }
    if (EPILOGUE == SUR_GPU_HEAD) {
        __syncthreads();
        best_four(p, (unsigned long long *)(((uintptr_t)room + 7) & ~(uintptr_t)7));
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
