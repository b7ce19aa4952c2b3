/* What the attention kernels share (attend.cu, attend_many.cu, and the softmax of gemm.cu): which keys a query sees,
 * copies of key blocks to shared memory, queries split into two fp16 halves. */
#pragma once

#include "common.cuh"

#define KEYS         SUR_GPU_KEYS
#define LOG2E        0x1.715476p0f
#define WEIGHT_SCALE 16384.0f /* weights from 0 to 1 become 0 to 2^14, so that their low halves are normal numbers */

/* Positions from .. to, both included. */
struct range {
    int64_t from, to;
};

/* The keys that a query of the pass sees. */
DEVICE range seen_by(const sur_gpu_attend &p, int64_t first, int query)
{
    int64_t at = first + query, oldest = at - p.window + 1;
    return {oldest > 0 ? oldest : 0, at};
}

/* Query heads per K/V head; and 1 / that. */
DEVICE int group_of(const sur_gpu_attend &p)
{
    return __float2int_rn(__fdividef((float)p.n_heads, (float)p.ring.n_kv_heads));
}
DEVICE float a_group(int group)
{
    return __fdividef(1, (float)group);
}

/* Byte offset of 16-byte piece `piece` of row `row` in a swizzled tile whose rows have PIECES pieces. */
template <int PIECES> DEVICE uint32_t swizzled(int row, int piece)
{
    return (uint32_t)(row * PIECES + (piece ^ (row & 7))) * 16;
}

/* Slots from .. to - 1 of a block: rows of a tile of keys; in a tile of values eight slots are one 16-byte piece. */
struct slots {
    int from, to;

    DEVICE_MEMBER bool are_none() const { return from >= to; }
    DEVICE_MEMBER bool have(int slot) const { return slot >= from && slot < to; }
    DEVICE_MEMBER bool share(int eight) const { return eight >= from / 8 && eight <= (to - 1) / 8 && !are_none(); }
};

/* Copies a block of keys or of values to shared memory, without the pieces of the slots `but`; by THREADS threads. */
template <int DP, int THREADS, bool VALUES> DEVICE void fetch_block(uint32_t to, const __half *from, const slots &but)
{
    constexpr int PIECES = VALUES ? KEYS / 8 : DP / 8; /* of a row of the tile */
    static_assert(KEYS * DP / 8 % THREADS == 0 && THREADS / PIECES % 8 == 0,
                  "every thread copies equally many pieces, at most one per row");
    const int row = threadIdx.x / PIECES;
    const bool shared_eight = VALUES && but.share(threadIdx.x % PIECES ^ (row & 7));
#pragma unroll
    for (int i = 0; i < KEYS * DP / 8; i += THREADS)
        if (VALUES ? !shared_eight : !but.have(row + i / PIECES))
            copy_async(to + (threadIdx.x + i) * 16, from + (threadIdx.x + i) * 8);
}

DEVICE void put_fp16_split(char *hi, char *lo, uint32_t at_byte, float a, float b)
{
    __half ha = __float2half_rn(a), hb = __float2half_rn(b);
    *(__half2 *)(hi + at_byte) = __halves2half2(ha, hb);
    *(__half2 *)(lo + at_byte) = __halves2half2(__float2half_rn(__fsub_rn(a, __half2float(ha))),
                                                __float2half_rn(__fsub_rn(b, __half2float(hb))));
}

/* Reads N rows of queries, row r and every step-th after it, scales each by a power of two to below 2^14, and splits
 * it. factor[r] undoes that and includes the scale of attention, in units of log2. Missing rows and elements become 0.
 */
template <int DP, int N>
DEVICE void read_queries(const sur_gpu_attend &p, int head, int row0, int n_rows, int r, int step, char *hi, char *lo,
                         float *factor)
{
    const int lane = threadIdx.x % 32, group = group_of(p), d = p.ring.head_dim;
    float x[N][DP / 32];
#pragma unroll
    for (int n = 0; n < N; n++) {
        const int row = row0 + r + n * step, query = floor_times(row, a_group(group));
        const float *q = at<const float>(p.q) + (query * (p.n_heads - group) + head * group + row) * d;
#pragma unroll
        for (int i = 0; i < DP / 64; i++) { /* head_dim is even */
            const int e = i * 64 + lane * 2;
            const float2 two = row < n_rows && e < d ? __ldcg((const float2 *)(q + e)) : make_float2(0, 0);
            x[n][2 * i] = two.x, x[n][2 * i + 1] = two.y;
        }
    }
#pragma unroll
    for (int n = 0; n < N; n++, r += step) {
        float most = 0;
#pragma unroll
        for (int i = 0; i < DP / 32; i++) most = fmaxf(most, fabsf(x[n][i]));
        for (int lanes = 16; lanes; lanes >>= 1) most = fmaxf(most, __shfl_xor_sync(~0u, most, lanes));
        int exponent = (int)(__float_as_uint(most) >> 23) - 127; /* most < 2^(exponent + 1) */
        exponent = exponent < -60 ? -60 : exponent > 60 ? 60 : exponent;
        float up = __uint_as_float((uint32_t)(13 - exponent + 127) << 23);
#pragma unroll
        for (int i = 0; i < DP / 64; i++) {
            int piece = i * 8 + lane / 4;
            put_fp16_split(hi, lo, swizzled<DP / 8>(r, piece) + lane % 4 * 4, x[n][2 * i] * up, x[n][2 * i + 1] * up);
        }
        if (lane == 0) factor[r] = p.scale * LOG2E * __uint_as_float((uint32_t)(exponent - 13 + 127) << 23);
    }
}

/* Adds the low halves' sums to those of the high ones. */
DEVICE void add_halves(float (&sum)[4], const float (&low)[4])
{
#pragma unroll
    for (int i = 0; i < 4; i++) sum[i] = __fadd_rn(sum[i], low[i]);
}
