/* Attention over a ring of keys and values: online softmax, split over blocks of 128 keys.
 *
 * A thread block takes 16 rows (query, head of the group) and every so many-th block of keys, on the tensor cores:
 * queries and weights are split in two halves of fp16 (22 bits; powers of two keep them in its range), keys and values
 * are exact. The thread block of a row group that finishes last merges all blocks of keys in ascending order, so that
 * no bit depends on which came last; one that has a row group for itself merges as it goes, in the same order. Keys
 * and values come before the kernel that writes the newest ones has ended; those are then fetched again. */
#pragma once

#include "common.cuh"

#define KEYS         SUR_GPU_KEYS
#define ROWS         16
#define WARPS        8
#define LOG2E        0x1.715476p0f
#define WEIGHT_SCALE 16384.0f /* weights 0 to 1 become 0 to 2^14: their low halves stay normal numbers */

struct range {
    int64_t from, to; /* both seen */
};

DEVICE range seen_by(const sur_gpu_attend &p, int64_t first, int query)
{
    int64_t at = first + query, oldest = at - p.window + 1;
    return {oldest > 0 ? oldest : 0, at};
}

/* Heads of queries that share one of keys and values, and one through that. */
DEVICE int group_of(const sur_gpu_attend &p)
{
    return __float2int_rn(__fdividef((float)p.n_heads, (float)p.ring.n_kv_heads));
}
DEVICE float a_group(int group)
{
    return __fdividef(1, (float)group);
}

/* Where 16-byte piece `piece` of row `row` lies in a tile of rows of PIECES pieces. */
template <int PIECES> DEVICE uint32_t swizzled(int row, int piece)
{
    return (uint32_t)(row * PIECES + (piece ^ (row & 7))) * 16;
}

/* N_BYTES as they lie, by so many threads: a block of keys or of values. */
template <int N_BYTES, int THREADS> DEVICE void fetch_block(uint32_t to, const void *from)
{
    static_assert(N_BYTES % (THREADS * 16) == 0, "each thread as many pieces");
    const uint32_t mine = threadIdx.x * 16;
#pragma unroll
    for (int i = 0; i < N_BYTES; i += THREADS * 16) copy_async(to + mine + i, (const char *)from + mine + i);
}

/* What slots from .. to - 1 of a block of keys and one of values share of them, anew. */
template <int DP, int THREADS>
DEVICE void fetch_slots(uint32_t to_keys, const void *keys, uint32_t to_values, const void *values, int from, int to)
{
    const int pieces = DP / 8, first = from / 8, groups = (to - 1) / 8 - first + 1;
    for (int i = threadIdx.x; i < (to - from) * pieces; i += THREADS) {
        const uint32_t at_byte = from * DP * 2 + i * 16;
        copy_async(to_keys + at_byte, (const char *)keys + at_byte);
    }
    for (int i = threadIdx.x; i < groups * DP; i += THREADS) {
        const uint32_t at_byte = swizzled<KEYS / 8>(i % DP, first + i / DP);
        copy_async(to_values + at_byte, (const char *)values + at_byte);
    }
}

DEVICE void put_fp16_split(char *hi, char *lo, uint32_t at_byte, float a, float b)
{
    __half ha = __float2half_rn(a), hb = __float2half_rn(b);
    *(__half2 *)(hi + at_byte) = __halves2half2(ha, hb);
    *(__half2 *)(lo + at_byte) = __halves2half2(__float2half_rn(__fsub_rn(a, __half2float(ha))),
                                                __float2half_rn(__fsub_rn(b, __half2float(hb))));
}

/* N rows of queries, the first of them `r` and each `step` further on, scaled by a power of two to below 2^14 and
 * split; factor[r] undoes it and carries the scale of attention, in units of log2. Rows and elements that do not exist
 * are 0. */
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

/* score[i][..] of keys 16 warp + 8 i + ...: rows g and g + 8, keys 2 t and 2 t + 1. */
template <int DP> DEVICE void scores(float (&score)[2][4], uint32_t q_hi, uint32_t q_lo, uint32_t keys)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, m = lane / 8, r = lane % 8;
#pragma unroll
    for (int s = 0; s < DP / 16; s++) {
        uint32_t hi[4], lo[4], b[4], at_q = swizzled<DP / 8>((m & 1) * 8 + r, 2 * s + (m >> 1));
        load_matrix4(hi, q_hi + at_q);
        load_matrix4(lo, q_lo + at_q);
        load_matrix4(b, keys + swizzled<DP / 8>(warp * 16 + (m >> 1) * 8 + r, 2 * s + (m & 1)));
#pragma unroll
        for (int i = 0; i < 2; i++) {
            mma_fp16(score[i], lo, b[2 * i], b[2 * i + 1]);
            mma_fp16(score[i], hi, b[2 * i], b[2 * i + 1]);
        }
    }
}

/* Softmax of the block: score becomes the split weights in w_hi, w_lo. Warps meet twice, first(): all have read the
 * keys; second(): the weights are there, and sums [WARPS][ROWS] of them, for total_weight. see[h]: the last key of the
 * block that the row sees. halves: 1 when there are but 8 rows: of the others nothing is worked out. */
template <typename FIRST, typename SECOND>
DEVICE void softmax(float (&score)[2][4], int halves, const float *factor, const int *see, int window, char *w_hi,
                    char *w_lo, float (*tops)[ROWS], float (*sums)[ROWS], float (&most)[2], FIRST first, SECOND second)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, key0 = warp * 16 + lane % 4 * 2;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (h == halves) break;
        const int r = lane / 4 + 8 * h;
        const float f = factor[r];
        most[h] = -INFINITY;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const int before = see[h] - (key0 + i / 2 * 8 + i % 2); /* keys before the last that is seen */
            float &s = score[i / 2][2 * h + i % 2];
            s = before >= 0 && before < window ? __fmul_rn(s, f) : -INFINITY;
            most[h] = fmaxf(most[h], s);
        }
        for (int step = 1; step < 4; step <<= 1) most[h] = fmaxf(most[h], __shfl_xor_sync(~0u, most[h], step));
        if (lane % 4 == 0) tops[warp][r] = most[h];
    }
    first();
#pragma unroll
    for (int h = 0; h < 2; h++) {
        if (h == halves) break;
        const int r = lane / 4 + 8 * h;
#pragma unroll
        for (int i = 0; i < WARPS; i++) most[h] = fmaxf(most[h], tops[i][r]);
        const float below = most[h] == -INFINITY ? 0 : most[h]; /* then every weight is exp2(-inf): 0 */
        float w[4];
#pragma unroll
        for (int i = 0; i < 4; i++) w[i] = exp2_fast(__fsub_rn(score[i / 2][2 * h + i % 2], below));
        float sum = __fadd_rn(__fadd_rn(w[0], w[1]), __fadd_rn(w[2], w[3]));
        for (int step = 1; step < 4; step <<= 1) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, step));
        if (lane % 4 == 0) sums[warp][r] = sum;
#pragma unroll
        for (int i = 0; i < 2; i++)
            put_fp16_split(w_hi, w_lo, swizzled<KEYS / 8>(r, warp * 2 + i) + lane % 4 * 4, w[2 * i] * WEIGHT_SCALE,
                           w[2 * i + 1] * WEIGHT_SCALE);
    }
    second();
}

DEVICE float total_weight(const float (*sums)[ROWS], int r)
{
    float total = sums[0][r];
#pragma unroll
    for (int i = 1; i < WARPS; i++) total = __fadd_rn(total, sums[i][r]);
    return total;
}

/* sum[i]: rows g and g + 8, elements DP / 8 * warp + 8 i + 2 t and + 1. */
template <int DP> DEVICE void weigh(float (&sum)[DP / 64][4], uint32_t w_hi, uint32_t w_lo, uint32_t values)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, m = lane / 8, r = lane % 8;
#pragma unroll
    for (int s = 0; s < KEYS / 16; s += 2) {
        uint32_t b[2][4]; /* [i]: DP 128: step s + i's two tiles; DP 64: both steps of the one tile are in b[0] */
        if (DP == 128)
            for (int i = 0; i < 2; i++)
                load_matrix4(b[i], values + swizzled<KEYS / 8>(warp * 16 + (m >> 1) * 8 + r, 2 * (s + i) + (m & 1)));
        else
            load_matrix4(b[0], values + swizzled<KEYS / 8>(warp * 8 + r, 2 * s + m));
#pragma unroll
        for (int step = 0; step < 2; step++) {
            uint32_t hi[4], lo[4], at_w = swizzled<KEYS / 8>((m & 1) * 8 + r, 2 * (s + step) + (m >> 1));
            load_matrix4(hi, w_hi + at_w);
            load_matrix4(lo, w_lo + at_w);
#pragma unroll
            for (int i = 0; i < DP / 64; i++) {
                const uint32_t *v = DP == 128 ? b[step] + 2 * i : b[0] + 2 * step;
                mma_fp16(sum[i], lo, v[0], v[1]);
                mma_fp16(sum[i], hi, v[0], v[1]);
            }
        }
    }
}

/* What the blocks so far are worth once block i is added: old sums times a, the block's times b. Warp-wide, lane i has
 * block i of up to 32; `run` is the maximum so far and becomes the new one. */
DEVICE void merge_factors(float most, float &run, float &a, float &b)
{
    const int lane = threadIdx.x % 32;
    float now = most;
    for (int step = 1; step < 32; step <<= 1) {
        float other = __shfl_up_sync(~0u, now, step);
        if (lane >= step) now = fmaxf(now, other);
    }
    now = fmaxf(now, run);
    float before = __shfl_up_sync(~0u, now, 1);
    if (lane == 0) before = run;
    a = now == -INFINITY ? 1 : exp2_fast(__fsub_rn(before, now));
    b = most == -INFINITY ? 0 : exp2_fast(__fsub_rn(most, now));
    run = __shfl_sync(~0u, now, 31);
}

/* Where a row's result goes. */
struct result {
    float *out;
    split_places places;
    int query, in_query;

    DEVICE_MEMBER result(const sur_gpu_attend &p, int group, int head, int row) : places(p.hi, p.lo, p.pitch)
    {
        query = floor_times(row, a_group(group));
        in_query = (head * group + row - query * group) * p.ring.head_dim;
        out = p.out ? at<float>(p.out) + (size_t)query * p.n_heads * p.ring.head_dim + in_query : NULL;
    }
    /* Elements e (even) and e + 1. */
    DEVICE_MEMBER void put(int e, float a, float b) const
    {
        if (out) *(float2 *)(out + e) = make_float2(a, b);
        if (!places.hi) return;
        const size_t i = places.index(query, in_query + e);
        split_pair(*(__nv_bfloat162 *)(places.hi + i), *(__nv_bfloat162 *)(places.lo + i), a, b);
    }
};

/* Merges the blocks of a row group: partial [blocks][16][DP + 4]. A warp takes 64 elements of a row at a time, two a
 * lane, and of up to 32 blocks one a lane's maximum and weight. */
template <int DP>
static __device__ void merge(const sur_gpu_attend &p, int group, int head, const float *partial, int n_blocks, int row0,
                             int rows)
{
    constexpr int ROW = SUR_GPU_PARTIAL(DP), BLOCK = ROWS * ROW, AHEAD = 16; /* loads under way */
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, e = warp % (DP / 64) * 64 + lane * 2;
    for (int r = warp / (DP / 64); r < rows; r += WARPS * 64 / DP) {
        const float *row = partial + r * ROW;
        float2 sum = make_float2(0, 0);
        float weight = 0, run = -INFINITY;
        for (int base = 0; base < n_blocks; base += 32) {
            const int n = min(n_blocks - base, 32);
            const float *from = row + (size_t)base * BLOCK;
            float2 mine = make_float2(-INFINITY, 0);
            if (lane < n) mine = __ldcg((const float2 *)(from + (size_t)lane * BLOCK + DP));
            float a, b;
            bool known = false;
            for (int i0 = 0; i0 < n; i0 += AHEAD) {
                float2 v[AHEAD];
#pragma unroll
                for (int i = 0; i < AHEAD; i++)
                    if (i0 + i < n) v[i] = __ldcg((const float2 *)(from + (size_t)(i0 + i) * BLOCK + e));
                if (!known) merge_factors(mine.x, run, a, b);
                known = true;
#pragma unroll
                for (int i = 0; i < AHEAD; i++) {
                    if (i0 + i >= n) break;
                    const float before = __shfl_sync(~0u, a, i0 + i), now = __shfl_sync(~0u, b, i0 + i);
                    sum.x = __fmaf_rn(v[i].x, now, __fmul_rn(sum.x, before));
                    sum.y = __fmaf_rn(v[i].y, now, __fmul_rn(sum.y, before));
                    weight = __fmaf_rn(__shfl_sync(~0u, mine.y, i0 + i), now, __fmul_rn(weight, before));
                }
            }
        }
        const float one = __frcp_rn(weight);
        if (e < p.ring.head_dim) result(p, group, head, row0 + r).put(e, __fmul_rn(sum.x, one), __fmul_rn(sum.y, one));
    }
}

/* What a thread has gathered of its two rows when its thread block takes all blocks of keys: merged as merge does. */
template <int DP> struct gathered {
    float sum[DP / 64][4], weight[2], run[2];

    DEVICE_MEMBER void add(const float (&block)[DP / 64][4], const float (&most)[2], const float (&block_weight)[2])
    {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float now = fmaxf(run[h], most[h]);
            const float a = now == -INFINITY ? 1 : exp2_fast(__fsub_rn(run[h], now));
            const float b = most[h] == -INFINITY ? 0 : exp2_fast(__fsub_rn(most[h], now));
            run[h] = now;
            weight[h] = __fmaf_rn(block_weight[h], b, __fmul_rn(weight[h], a));
#pragma unroll
            for (int i = 0; i < DP / 64 * 2; i++) {
                float &s = sum[i / 2][2 * h + i % 2];
                s = __fmaf_rn(block[i / 2][2 * h + i % 2], b, __fmul_rn(s, a));
            }
        }
    }
    DEVICE_MEMBER void write(const sur_gpu_attend &p, int group, int head, int row0, int rows) const
    {
        const int lane = threadIdx.x % 32, e = threadIdx.x / 32 * (DP / 8) + lane % 4 * 2;
#pragma unroll
        for (int h = 0; h < 2; h++) {
            if (lane / 4 + h * 8 >= rows) break;
            const result to(p, group, head, row0 + lane / 4 + h * 8);
            const float one = __frcp_rn(weight[h]);
#pragma unroll
            for (int i = 0; i < DP / 64; i++)
                if (e + i * 8 < p.ring.head_dim)
                    to.put(e + i * 8, __fmul_rn(sum[i][2 * h], one), __fmul_rn(sum[i][2 * h + 1], one));
        }
    }
};

/* By 256 threads; thread block (taker, K/V head, row group of 16): a taker has every gridDim.x-th block of keys.
 * This function is long: its steps share nearly all that it holds. */
template <int DP> static __device__ void attend(const sur_gpu_attend &p)
{
    DYNAMIC_SHARED(shared, 128);
    char *keys = shared, *values = keys + KEYS * DP * 2, *q_hi = values + KEYS * DP * 2, *q_lo = q_hi + ROWS * DP * 2;
    char *w_hi = q_lo + ROWS * DP * 2, *w_lo = w_hi + ROWS * KEYS * 2;
    __shared__ float factor[ROWS], tops[WARPS][ROWS], sums[WARPS][ROWS];
    __shared__ bool last;
    const int head = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = group_of(p);
    const int n_rows = p.n * group, row0 = blockIdx.z * ROWS, rows = min(n_rows - row0, ROWS);
    const int query0 = floor_times(row0, a_group(group)), query1 = floor_times(row0 + rows - 1, a_group(group));

    /* The position was written at least two kernels ago. Blocks are counted from the first that a row sees. */
    const int64_t first = *at<const int64_t>(p.position), from = seen_by(p, first, query0).from / KEYS;
    const int n_blocks = (int)((first + query1) / KEYS - from) + 1, takers = min(n_blocks, (int)gridDim.x);
    int block = blockIdx.x, slot = (int)(((uint32_t)from + block) % (uint32_t)p.ring.n_blocks);
    const size_t head_at = (size_t)head * p.ring.n_blocks * KEYS * DP;
    auto keys_at = [&] { return at<const __half>(p.ring.k) + head_at + slot * (KEYS * DP); };
    auto values_at = [&] { return at<const __half>(p.ring.v) + head_at + slot * (KEYS * DP); };
    auto fetch_keys = [&] {
        fetch_block<KEYS * DP * 2, WARPS * 32>(shared_address(keys), keys_at());
        copy_commit();
    };
    auto fetch_values = [&] {
        fetch_block<KEYS * DP * 2, WARPS * 32>(shared_address(values), values_at());
        copy_commit();
    };
    if (block < n_blocks) {
        fetch_keys();
        fetch_values();
    }
    wait_for_previous();
    let_next_start();
    if (block >= n_blocks) return;
    read_queries<DP, ROWS / WARPS>(p, head, row0, n_rows, warp, WARPS, q_hi, q_lo, factor);
    /* slots of the pass's own positions, which the kernel before wrote; of blocks that come later nothing was read */
    const int64_t block0 = (from + block) * KEYS;
    const int newest = (int)(first > block0 ? first - block0 : 0), end = (int)min(first + p.n - block0, (int64_t)KEYS);
    if (newest < end) {
        copy_wait<0>();
        sync_256();
        fetch_slots<DP, WARPS * 32>(shared_address(keys), keys_at(), shared_address(values), values_at(), newest, end);
        copy_commit();
        copy_wait<0>();
    }

    int see[2]; /* the last key that each of the thread's two rows sees, from the block's first key */
    for (int h = 0; h < 2; h++)
        see[h] = (int)(first - (from + block) * KEYS) + floor_times(row0 + lane / 4 + 8 * h, a_group(group));
    const size_t group_at = (size_t)head * gridDim.z + blockIdx.z;
    float *partial = at<float>(p.partial) + group_at * p.max_blocks * ROWS * SUR_GPU_PARTIAL(DP);
    gathered<DP> all = {{}, {0, 0}, {-INFINITY, -INFINITY}};
    for (bool again = false;; again = true) {
        float score[2][4] = {}, sum[DP / 64][4] = {}, most[2], weight[2];
        if (again) {
            copy_wait<0>();
            sync_256();
            fetch_values();
        } else {
            copy_wait<1>();
            sync_256();
        }
        scores<DP>(score, shared_address(q_hi), shared_address(q_lo), shared_address(keys));
        const int this_block = block;
        softmax(
            score, rows > 8 ? 2 : 1, factor, see, p.window, w_hi, w_lo, tops, sums, most,
            [&] {
                sync_256();
                block += gridDim.x;
                slot += gridDim.x;
                if (slot >= p.ring.n_blocks) slot -= p.ring.n_blocks;
                if (block < n_blocks)
                    fetch_keys();
                else
                    copy_commit(); /* that as many are under way */
            },
            [&] {
                copy_wait<1>();
                sync_256();
            });
        weigh<DP>(sum, shared_address(w_hi), shared_address(w_lo), shared_address(values));
#pragma unroll
        for (int i = 0; i < DP / 64 * 4; i++) sum[i / 4][i % 4] *= 1 / WEIGHT_SCALE;
        for (int h = 0; h < 2; h++) {
            see[h] -= (int)gridDim.x * KEYS;
            weight[h] = total_weight(sums, lane / 4 + 8 * h);
        }
        if (takers == 1) {
            all.add(sum, most, weight);
        } else {
            float *to_block = partial + (size_t)this_block * ROWS * SUR_GPU_PARTIAL(DP);
#pragma unroll
            for (int h = 0; h < 2; h++) {
                if (lane / 4 + h * 8 >= rows) break;
                float *to = to_block + (lane / 4 + h * 8) * SUR_GPU_PARTIAL(DP);
#pragma unroll
                for (int i = 0; i < DP / 64; i++)
                    __stcg((float2 *)(to + warp * (DP / 8) + i * 8 + lane % 4 * 2),
                           make_float2(sum[i][2 * h], sum[i][2 * h + 1]));
                if (warp == 0 && lane % 4 == 0) __stcg((float2 *)(to + DP), make_float2(most[h], weight[h]));
            }
        }
        if (block >= n_blocks) break;
    }
    if (takers == 1) {
        all.write(p, group, head, row0, rows);
        return;
    }
    sync_256();
    if (threadIdx.x == 0) {
        int *counter = at<int>(p.counters) + group_at;
        last = count_at(counter) == takers - 1;
        if (last) *counter = 0;
    }
    sync_256();
    if (!last) return;
    merge<DP>(p, group, head, partial, n_blocks, row0, rows);
}
