/* What the kernels share: the split of an activation, the input of a product and what becomes of its sums. Arithmetic
 * that decides bits is written with explicit roundings, so that no two kernels contract it differently. */
#pragma once

#include <instructions.cuh>

#include "launch.h"

template <typename T> DEVICE T *at(sur_gpu_ptr p)
{
    return reinterpret_cast<T *>(p);
}

/* ---- numbers ---- */

/* floor(i / n) for an_nth = 1 / n, i below 2^20: a division of whole numbers takes five times as many instructions. */
DEVICE int floor_times(int i, float an_nth)
{
    return __float2int_rz(__fmul_rn((float)i + 0.5f, an_nth));
}

/* x = hi + lo to 2^-17 of x. */
DEVICE void split(float x, __nv_bfloat16 &hi, __nv_bfloat16 &lo)
{
    hi = __float2bfloat16_rn(x);
    lo = __float2bfloat16_rn(__fsub_rn(x, __bfloat162float(hi)));
}

/* Two neighbours split. */
DEVICE void split_pair(__nv_bfloat162 &hi, __nv_bfloat162 &lo, float a, float b)
{
    hi = __floats2bfloat162_rn(a, b);
    lo = __floats2bfloat162_rn(__fsub_rn(a, __low2float(hi)), __fsub_rn(b, __high2float(hi)));
}

/* Nearest even, saturated: what a ring of fp16 holds. */
DEVICE __half saturated_half(float x)
{
    return __float2half_rn(fminf(fmaxf(x, -65504.0f), 65504.0f));
}

DEVICE float gelu(float x)
{
    return __fmul_rn(__fmul_rn(0.5f, x), __fadd_rn(1.0f, erff(__fmul_rn(x, 0x1.6a09e6p-1f))));
}
DEVICE float silu_mul(float gate, float up)
{
    return __fmul_rn(__fdividef(gate, __fadd_rn(1.0f, expf(-gate))), up);
}

/* ---- input of a product ---- */

/* An RMSNorm's sum of squares in an order that depends on n alone: thread i of 256 sums elements 4 i .. 4 i + 3, then
 * those 1024 further on, ...; the lanes of a warp fold by butterflies (fold_warp), the 8 warps are added ascending
 * (rms_of). */
DEVICE float fold_warp(float sum)
{
    for (int step = 16; step; step >>= 1) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, step));
    return sum;
}
/* 1 / sqrt(mean + eps) of the warps' sums [8]. */
DEVICE float rms_of(const float *sums, int n, float eps)
{
    float total = sums[0];
    for (int i = 1; i < 8; i++) total = __fadd_rn(total, sums[i]);
    return rsqrtf(__fadd_rn(__fdividef(total, (float)n), eps)); /* to 2^-21, always the same way */
}
/* The scale of x [n]. All threads of the block call it; callers synchronize before they reuse room [8]. */
DEVICE float rms_scale(const float *x, int n, float eps, float *room)
{
    if (threadIdx.x < 256) {
        float sum = 0;
        for (int i = threadIdx.x * 4; i < n; i += 1024)
            for (int j = i; j < i + 4 && j < n; j++) {
                float v = __ldcg(x + j);
                sum = __fmaf_rn(v, v, sum);
            }
        sum = fold_warp(sum);
        if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = sum;
    }
    __syncthreads();
    return rms_of(room, n, eps);
}

/* Element i of column c, before any norm. */
DEVICE float input_element(const sur_gpu_input &in, int c, int i)
{
    const float *x = at<const float>(in.x);
    if (in.taps) return __ldcg(x + (size_t)(c * in.taps + i % 3) * in.stride + i / 3);
    return __ldcg(x + (size_t)c * in.stride + i);
}

/* ---- what becomes of sums ---- */

/* Element e of head_dim of key or value head `head` at position p. */
DEVICE void ring_put(const sur_gpu_ring &r, bool value, int head, int e, int64_t p, float x)
{
    uint32_t block = (uint32_t)(p / SUR_GPU_KEYS) % (uint32_t)r.n_blocks, slot = (uint32_t)p % SUR_GPU_KEYS;
    size_t in_block = value ? (size_t)e * SUR_GPU_KEYS + slot : (size_t)slot * r.dp + e;
    size_t i = ((size_t)head * r.n_blocks + block) * SUR_GPU_KEYS * r.dp + in_block;
    sur_gpu_ptr to = value ? r.v : r.k;
    if (r.fp32)
        at<float>(to)[i] = x;
    else
        at<__half>(to)[i] = saturated_half(x);
}

/* Element i of the ring's k or v. */
DEVICE float ring_get(const sur_gpu_ring &r, sur_gpu_ptr from, size_t i)
{
    return r.fp32 ? at<const float>(from)[i] : __half2float(at<const __half>(from)[i]);
}

/* Where a row of q, k, v goes. */
struct qkv_place {
    int head, e;
    bool query, value;

    DEVICE_MEMBER qkv_place(const sur_gpu_output &o, int row)
    {
        const uint32_t d = o.ring.head_dim, kv_rows = o.ring.n_kv_heads * d;
        uint32_t in = row;
        query = in < (uint32_t)o.q_rows;
        value = in >= o.q_rows + kv_rows;
        if (!query) in -= o.q_rows + (value ? kv_rows : 0);
        head = in / d;
        e = in - head * d;
    }
};

/* cos and sin of an element's pair in column c; of a value, which is not turned, 1 and 0. */
DEVICE float2 turn_of(const sur_gpu_output &o, const qkv_place &at_row, int c)
{
    if (at_row.value) return make_float2(1, 0);
    return *(const float2 *)(at<const float>(o.rotation) + (size_t)c * o.ring.head_dim + (at_row.e & ~1));
}

/* Rows `row` (even) and row + 1 of q, k, v: a, b. */
DEVICE void finish_pair(const sur_gpu_output &o, const qkv_place &to, float2 turn, int row, int c, float a, float b,
                        int64_t first)
{
    float x = a, y = b;
    if (!to.value) {
        x = __fmaf_rn(a, turn.x, -__fmul_rn(b, turn.y));
        y = __fmaf_rn(a, turn.y, __fmul_rn(b, turn.x));
    }
    if (to.query) {
        float *q = at<float>(o.y) + (size_t)c * o.stride + row;
        q[0] = x, q[1] = y;
    } else {
        ring_put(o.ring, to.value, to.head, to.e, first + c, x);
        ring_put(o.ring, to.value, to.head, to.e + 1, first + c, y);
    }
}

/* v: the sum of this row and column with its bias. pair: SWIGLU: that of w_up's row; ADD: y as it was, which callers
 * load early. QKV: finish_pair. */
template <int EPILOGUE> DEVICE void finish(const sur_gpu_output &o, int row, int c, float v, float pair, int64_t first)
{
    if (EPILOGUE == SUR_GPU_GELU) v = gelu(v);
    if (EPILOGUE == SUR_GPU_SWIGLU) v = silu_mul(v, pair);
    if (o.y) {
        size_t column = EPILOGUE == SUR_GPU_ROWS ? (size_t)((first + c) % SUR_GPU_ROW_RING) : (size_t)c;
        float *y = at<float>(o.y) + column * o.stride + row;
        *y = EPILOGUE == SUR_GPU_ADD ? __fadd_rn(pair, v) : v;
    }
    if (o.hi) {
        size_t i = (size_t)c * o.pitch + row;
        split(v, at<__nv_bfloat16>(o.hi)[i], at<__nv_bfloat16>(o.lo)[i]);
    }
}
