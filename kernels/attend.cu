/* Attention as kernels of their own: on the tensor cores (attend.cuh; for many rows attend_many.cu), and plain for
 * other sizes and rings of fp32. */
#include "attend.cuh"

extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) k_attend_64(const __grid_constant__ sur_gpu_attend p)
{
    attend<64>(p);
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) k_attend_128(const __grid_constant__ sur_gpu_attend p)
{
    attend<128>(p);
}

/* ---- plain ---- */

/* All 128 threads' largest, or their sum in a fixed tree. */
template <bool SUM> DEVICE float fold(float x, float *room)
{
    for (int step = 16; step; step >>= 1) {
        float other = __shfl_xor_sync(~0u, x, step);
        x = SUM ? __fadd_rn(x, other) : fmaxf(x, other);
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = x;
    __syncthreads();
    return SUM ? __fadd_rn(__fadd_rn(__fadd_rn(room[0], room[1]), room[2]), room[3])
               : fmaxf(fmaxf(room[0], room[1]), fmaxf(room[2], room[3]));
}

/* One query and head a block of 128 threads: grid (n, n_heads). head_dim up to 512. */
extern "C" __global__ void __launch_bounds__(KEYS) k_attend_plain(const __grid_constant__ sur_gpu_attend p)
{
    __shared__ float q[512], w[KEYS], room[4];
    wait_for_previous();
    let_next_start();
    const sur_gpu_ring &ring = p.ring;
    const int d = ring.head_dim, t = threadIdx.x, head = blockIdx.y / (p.n_heads / ring.n_kv_heads);
    const size_t row = ((size_t)blockIdx.x * p.n_heads + blockIdx.y) * d;
    for (int e = t; e < d; e += KEYS) q[e] = at<const float>(p.q)[row + e];
    __syncthreads();
    range seen = seen_by(p, *at<const int64_t>(p.position), blockIdx.x);
    float run = -INFINITY, weight = 0, sum[4] = {0};
    for (int64_t block = seen.from / KEYS; block <= seen.to / KEYS; block++) {
        size_t base = ((size_t)head * ring.n_blocks + (size_t)(block % ring.n_blocks)) * KEYS * ring.dp;
        int64_t key = block * KEYS + t;
        float s = -INFINITY;
        if (key >= seen.from && key <= seen.to) {
            s = 0;
            for (int e = 0; e < d; e++)
                s = __fmaf_rn(q[e], ring_get(ring, ring.k, base + sur_gpu_key_at(t, e, ring.dp)), s);
            s = __fmul_rn(s, p.scale * LOG2E);
        }
        float most = fold<false>(s, room), now = fmaxf(run, most);
        w[t] = s == -INFINITY ? 0 : exp2_fast(__fsub_rn(s, most));
        float block_weight = fold<true>(w[t], room);
        float a = run == -INFINITY ? 0 : exp2_fast(__fsub_rn(run, now)), b = exp2_fast(__fsub_rn(most, now));
        for (int i = 0; i < 4; i++) {
            int e = t + i * KEYS;
            if (e >= d) break;
            float v = 0;
#pragma unroll 8
            for (int j = 0; j < KEYS; j++)
                v = __fmaf_rn(w[j], ring_get(ring, ring.v, base + sur_gpu_value_at(j, e)), v);
            sum[i] = __fmaf_rn(v, b, __fmul_rn(sum[i], a));
        }
        weight = __fmaf_rn(block_weight, b, __fmul_rn(weight, a));
        run = now;
        __syncthreads();
    }
    for (int i = 0; i < 4 && t + i * KEYS < d; i++) {
        float v = __fmul_rn(sum[i], reciprocal(weight));
        if (p.out) at<float>(p.out)[row + t + i * KEYS] = v;
        if (p.hi) put_split(p.hi, p.lo, p.pitch, blockIdx.x, blockIdx.y * d + t + i * KEYS, v);
    }
}
