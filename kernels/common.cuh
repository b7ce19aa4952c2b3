/* What the kernels share: the split of an activation, norms, the input of a product, and what a product does after its
 * sums. Arithmetic is written with explicit roundings, so that no two kernels contract it differently. */
#pragma once

#include <instructions.cuh>

#include "launch.h"

template <typename T> DEVICE T *at(sur_gpu_ptr p)
{
    return reinterpret_cast<T *>(p);
}

/* ---- numbers ---- */

/* floor(i / n) for an_nth = 1 / n and i below 2^20: an integer division takes five times as many instructions. */
DEVICE int floor_times(int i, float an_nth)
{
    return __float2int_rz(__fmul_rn((float)i + 0.5f, an_nth));
}

/* Splits x into hi + lo, to 2^-17 of x. */
DEVICE void split(float x, __nv_bfloat16 &hi, __nv_bfloat16 &lo)
{
    hi = __float2bfloat16_rn(x);
    lo = __float2bfloat16_rn(__fsub_rn(x, __bfloat162float(hi)));
}

/* Splits two neighbours. */
DEVICE void split_pair(__nv_bfloat162 &hi, __nv_bfloat162 &lo, float a, float b)
{
    hi = __floats2bfloat162_rn(a, b);
    lo = __floats2bfloat162_rn(__fsub_rn(a, __low2float(hi)), __fsub_rn(b, __high2float(hi)));
}

/* To nearest even, saturated, for a ring of fp16. Infinity becomes 65504, NaN -65504 (docs/model.md). */
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

/* ---- norms ---- */

/* The sum over the warp, in all lanes. */
DEVICE float fold_warp(float sum)
{
    for (int step = 16; step; step >>= 1) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, step));
    return sum;
}
/* The sum of squares of a group of 8 elements, one in each of 8 neighbouring lanes; all 8 get it. Elements past the end
 * are 0. All lanes of the warp call it. */
DEVICE float fold_squares(float x)
{
    float sum = __fmul_rn(x, x);
    for (int step = 4; step; step >>= 1) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, step));
    return sum;
}
/* 1 / sqrt(mean of squares + eps) of n elements; squares: sums by groups of 8. All lanes of the warp call it and get
 * it. */
DEVICE float rms_scale(const float *squares, int n, float eps)
{
    float sum = 0;
    for (int from = threadIdx.x % 32; from < (n + 7) / 8; from += 32 * 12) { /* 12 loads in flight */
        float part[12];
#pragma unroll
        for (int j = 0; j < 12; j++) part[j] = from + 32 * j < (n + 7) / 8 ? __ldcg(squares + from + 32 * j) : 0;
#pragma unroll
        for (int j = 0; j < 12; j++)
            if (from + 32 * j < (n + 7) / 8) sum = __fadd_rn(sum, part[j]);
    }
    return rsqrtf(
        __fadd_rn(__fdividef(fold_warp(sum), (float)n), eps)); /* to 2^-21; every kernel computes it this way */
}

/* Element i of column c, before any norm. */
DEVICE float input_element(const sur_gpu_input &in, int c, int i)
{
    const float *x = at<const float>(in.x);
    if (in.taps) return __ldcg(x + (size_t)(c * in.taps + i % 3) * in.stride + i / 3);
    return __ldcg(x + (size_t)c * in.stride + i);
}

/* ---- after the sums ---- */

/* Where split results go; computes once what many elements have in common. */
struct split_places {
    __nv_bfloat16 *hi, *lo;
    int column_step;
    bool fragments;

    DEVICE_MEMBER split_places(sur_gpu_ptr hi_, sur_gpu_ptr lo_, int pitch)
    {
        hi = at<__nv_bfloat16>(hi_);
        fragments = !lo_;
        lo = fragments ? hi + SUR_GPU_LOW : at<__nv_bfloat16>(lo_);
        column_step = fragments ? (int)SUR_GPU_FRAGMENT : pitch;
    }
    /* Index of element i of column c, for hi and for lo. Element i + 1 is next to an even i. */
    DEVICE_MEMBER size_t index(int c, int i) const
    {
        return (size_t)c * column_step + (fragments ? sur_gpu_fragment_at(i) : i);
    }
};

/* Writes v, split, to row `row` of column c. */
DEVICE void put_split(sur_gpu_ptr hi, sur_gpu_ptr lo, int pitch, int c, int row, float v)
{
    const split_places to(hi, lo, pitch);
    const size_t i = to.index(c, row);
    split(v, to.hi[i], to.lo[i]);
}

/* Index of element e of a K/V head at position p. */
DEVICE size_t ring_index(const sur_gpu_ring &r, bool value, int head, int e, int64_t p)
{
    uint32_t block = (uint32_t)(p / SUR_GPU_KEYS) % (uint32_t)r.n_blocks, slot = (uint32_t)p % SUR_GPU_KEYS;
    size_t in_block = value ? sur_gpu_value_at(slot, e) : sur_gpu_key_at(slot, e, r.dp);
    return ((size_t)head * r.n_blocks + block) * SUR_GPU_KEYS * r.dp + in_block;
}
DEVICE void ring_put(const sur_gpu_ring &r, bool value, int head, int e, int64_t p, float x)
{
    size_t i = ring_index(r, value, head, e, p);
    sur_gpu_ptr to = value ? r.v : r.k;
    if (r.fp32)
        at<float>(to)[i] = x;
    else
        at<__half>(to)[i] = saturated_half(x);
}

/* Element i of the ring's k or v (from: r.k or r.v). */
DEVICE float ring_get(const sur_gpu_ring &r, sur_gpu_ptr from, size_t i)
{
    return r.fp32 ? at<const float>(from)[i] : __half2float(at<const __half>(from)[i]);
}

/* What a row of q, k, v is: element e of a head of queries, keys or values. */
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

/* cos and sin of the rotation of an element in column c; 1 and 0 for values, which are not rotated. */
DEVICE float2 turn_of(const sur_gpu_output &o, const qkv_place &at_row, int c)
{
    if (at_row.value) return make_float2(1, 0);
    return *(const float2 *)(at<const float>(o.rotation) + (size_t)c * o.ring.head_dim + (at_row.e & ~1));
}

/* Rotates and writes rows `row` (even) and row + 1 of q, k, v, whose sums are a and b. */
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

/* Finishes and writes one row of one column, for every epilogue but QKV (finish_pair). v: the sum with its bias. pair:
 * for SWIGLU the sum of w_up's row, for ADD the old y, which the caller loads early. Returns the result. The squares of
 * the results are the caller's task. */
template <int EPILOGUE> DEVICE float finish(const sur_gpu_output &o, int row, int c, float v, float pair, int64_t first)
{
    if (EPILOGUE == SUR_GPU_GELU) v = gelu(v);
    if (EPILOGUE == SUR_GPU_SWIGLU) v = silu_mul(v, pair);
    if (EPILOGUE == SUR_GPU_ADD) v = __fadd_rn(pair, v);
    if (o.y) {
        size_t column = EPILOGUE == SUR_GPU_ROWS ? (size_t)((first + c) % SUR_GPU_ROW_RING) : (size_t)c;
        at<float>(o.y)[column * o.stride + row] = v;
    }
    if (o.hi) put_split(o.hi, o.lo, o.pitch, c, row, o.norm ? __fmul_rn(v, at<const float>(o.norm)[row]) : v);
    return v;
}
