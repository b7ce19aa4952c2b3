/* Splits a product's input: one thread block per column. */

#include "common.cuh"

enum { SPLIT_HELD = 5 }; /* float4 per thread: with 256 threads 5120 elements */

/* As rms_scale, for squares in shared memory. */
DEVICE float rms_scale_in(const float *squares, int n, float eps)
{
    float sum = 0;
    for (int i = threadIdx.x % 32; i < (n + 7) / 8; i += 32) sum = __fadd_rn(sum, squares[i]);
    return rsqrtf(__fadd_rn(__fdividef(fold_warp(sum), (float)n), eps));
}

/* As fold_squares, for a group of which two neighbouring lanes have one half each. */
DEVICE float fold_fours(float4 x)
{
    float s[4] = {__fmul_rn(x.x, x.x), __fmul_rn(x.y, x.y), __fmul_rn(x.z, x.z), __fmul_rn(x.w, x.w)};
#pragma unroll
    for (int i = 0; i < 4; i++) s[i] = __fadd_rn(s[i], __shfl_xor_sync(~0u, s[i], 1));
    return __fadd_rn(__fadd_rn(s[0], s[2]), __fadd_rn(s[1], s[3]));
}

DEVICE float4 times4(float4 a, float4 b)
{
    return make_float4(__fmul_rn(a.x, b.x), __fmul_rn(a.y, b.y), __fmul_rn(a.z, b.z), __fmul_rn(a.w, b.w));
}

/* As put_split, for four neighbours; i is a multiple of four. */
DEVICE void put_split4(const sur_gpu_split &p, int c, int i, float4 v)
{
    __nv_bfloat162 hi[2], lo[2];
    split_pair(hi[0], lo[0], v.x, v.y);
    split_pair(hi[1], lo[1], v.z, v.w);
    if (p.lo) {
        const size_t four = ((size_t)c * p.pitch + i) / 4;
        at<uint2>(p.hi)[four] = *(const uint2 *)hi;
        at<uint2>(p.lo)[four] = *(const uint2 *)lo;
    } else {
        const size_t pair = (c * SUR_GPU_FRAGMENT + sur_gpu_fragment_at(i)) / 2; /* the next pair: 8 elements further */
#pragma unroll
        for (int j = 0; j < 2; j++) {
            at<__nv_bfloat162>(p.hi)[pair + 4 * j] = hi[j];
            at<__nv_bfloat162>(p.hi)[pair + 4 * j + SUR_GPU_LOW / 2] = lo[j];
        }
    }
}

/* A norm over all of k: the split does not wait for the scale. */
static __device__ void split_whole(const sur_gpu_split &p, int c, float *scratch)
{
    constexpr int HELD = 3; /* float4 per thread: with 256 threads 3072 elements at once */
    const int n = p.k / 4, first = threadIdx.x, step = blockDim.x;
    const float4 *x = (const float4 *)(at<const float>(p.in.x) + (size_t)c * p.in.stride);
    const float4 *w = at<const float4>(p.in.norm);
    const float4 zero = make_float4(0, 0, 0, 0);
    float *squares = p.squares ? at<float>(p.squares) + (size_t)c * (p.k / 8) : NULL;
    for (int from = first; from - first < n; from += HELD * step) {
        float4 v[HELD], f[HELD];
#pragma unroll
        for (int j = 0; j < HELD; j++) {
            const int i = from + j * step;
            v[j] = i < n ? __ldcg(x + i) : zero;
            f[j] = i < n ? __ldg(w + i) : zero;
        }
#pragma unroll
        for (int j = 0; j < HELD; j++) {
            const int i = from + j * step;
            if (i - first % 32 >= n) break; /* the whole warp */
            const float sum = fold_fours(v[j]);
            if (i >= n) break;
            if (first % 2 == 0) scratch[i / 2] = sum;
            if (first % 2 == 0 && squares) squares[i / 2] = sum;
            put_split4(p, c, 4 * i, times4(v[j], f[j]));
        }
    }
    if (!p.scale) return;
    __syncthreads();
    if (first >= 32) return;
    const float scale = rms_scale_in(scratch, p.k, p.in.eps);
    if (first == 0) at<float>(p.scale)[c] = scale;
}

/* Every run of norm_k elements has its own norm. All runs are read before the first one is normed. */
static __device__ void split_runs(const sur_gpu_split &p, int c, float *scratch)
{
    const int n = p.k / 4, run = p.in.norm_k / 4, first = threadIdx.x, step = blockDim.x;
    const float4 *x = (const float4 *)(at<const float>(p.in.x) + (size_t)c * p.in.stride);
    float4 v[SPLIT_HELD];
#pragma unroll
    for (int j = 0; j < SPLIT_HELD; j++)
        v[j] = first + j * step < n ? __ldcg(x + first + j * step) : make_float4(0, 0, 0, 0);
    for (int from = 0; from < n; from += run) {
#pragma unroll
        for (int j = 0; j < SPLIT_HELD; j++) {
            const int in_run = first + j * step - from, warp = in_run - first % 32;
            if (warp + 32 <= 0 || warp >= run) continue; /* no element of this warp */
            const float sum = fold_fours(v[j]);
            if (in_run >= 0 && in_run < run && first % 2 == 0) scratch[in_run / 2] = sum;
        }
        __syncthreads();
        const float s = rms_scale_in(scratch, p.in.norm_k, p.in.eps);
#pragma unroll
        for (int j = 0; j < SPLIT_HELD; j++) {
            const int i = first + j * step;
            if (i < from || i >= from + run) continue;
            const float4 normed = times4(v[j], make_float4(s, s, s, s));
            put_split4(p, c, 4 * i, times4(normed, __ldg(at<const float4>(p.in.norm) + i - from)));
        }
        __syncthreads();
    }
}

/* A run of any size, one element at a time. It is read twice if its scale must be known first. */
static __device__ void split_run(const sur_gpu_split &p, int c, int from, float *scratch)
{
    const int n = p.in.norm_k, lane = threadIdx.x % 32, step = blockDim.x;
    const bool whole = n == p.k;
    const float *x = at<const float>(p.in.x) + (size_t)c * p.in.stride + from, *w = at<const float>(p.in.norm);
    for (int i = threadIdx.x; i - lane < n; i += step) {
        const float v = i < n ? __ldcg(x + i) : 0, sum = fold_squares(v);
        if (i >= n) break;
        if (lane % 8 == 0) scratch[i / 8] = sum;
        if (lane % 8 == 0 && whole && p.squares) at<float>(p.squares)[(size_t)c * ((n + 7) / 8) + i / 8] = sum;
        if (whole) put_split(p.hi, p.lo, p.pitch, c, i, __fmul_rn(v, w[i]));
    }
    __syncthreads();
    const float scale = rms_scale_in(scratch, n, p.in.eps);
    if (whole && p.scale && threadIdx.x == 0) at<float>(p.scale)[c] = scale;
    for (int i = threadIdx.x; !whole && i < n; i += step)
        put_split(p.hi, p.lo, p.pitch, c, from + i, __fmul_rn(__fmul_rn(__ldcg(x + i), scale), w[i]));
    __syncthreads();
}

/* Column c, by all threads of the block. scratch: (norm_k + 7) / 8 floats of shared memory; the caller synchronizes
 * before it uses them again. */
static __device__ void split_column(const sur_gpu_split &p, int c, float *scratch)
{
    const sur_gpu_input &in = p.in;
    const int step = blockDim.x;
    const bool fours = !((in.norm_k & 7) | (in.stride & 3)) && !((in.x | in.norm) & 15);
    if (!in.norm)
        for (int i = threadIdx.x; i < p.k; i += step) put_split(p.hi, p.lo, p.pitch, c, i, input_element(in, c, i));
    else if (fours && in.norm_k == p.k)
        split_whole(p, c, scratch);
    else if (fours && p.k <= SPLIT_HELD * 4 * step)
        split_runs(p, c, scratch);
    else
        for (int from = 0; from < p.k; from += in.norm_k) split_run(p, c, from, scratch);
    for (int i = p.k + threadIdx.x; i < p.pitch; i += step) put_split(p.hi, p.lo, p.pitch, c, i, 0);
}

extern "C" __global__ void __launch_bounds__(256, 4) k_split(const __grid_constant__ struct sur_gpu_split p)
{
    DYNAMIC_SHARED(shared, 16);
    wait_for_previous();
    let_next_start();
    split_column(p, (int)blockIdx.x, (float *)shared);
}
