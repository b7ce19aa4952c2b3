/* Attention over a ring of keys and values: online softmax, split over blocks of 128 keys.
 *
 * A thread block takes 16 rows (query, head of the group) and every so many-th block of keys, on the tensor cores:
 * queries and weights are split in two halves of fp16 (22 bits; powers of two keep them in its range), keys and values
 * are exact. The thread block of a row group that finishes last merges all blocks of keys in ascending order, so that
 * no bit depends on which came last; one that has a row group for itself merges as it goes, in the same order. */
#pragma once

#include "common.cuh"

#define KEYS         SUR_GPU_KEYS
#define ROWS         16
#define WARPS        8
#define LOG2E        0x1.715476p0f
#define WEIGHT_SCALE 16384.0f /* weights 0 to 1 become 0 to 2^14: their low halves stay normal numbers */

DEVICE float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

struct range {
    int64_t from, to; /* both seen */
};

DEVICE range seen_by(const sur_gpu_attend &p, int64_t first, int query)
{
    int64_t at = first + query, oldest = at - p.window + 1;
    return {oldest > 0 ? oldest : 0, at};
}

/* Where 16-byte piece `piece` of row `row` lies in a tile of rows of PIECES pieces. */
template <int PIECES> DEVICE uint32_t swizzled(int row, int piece)
{
    return (uint32_t)(row * PIECES + (piece ^ (row & 7))) * 16;
}

/* ROWS_ x PIECES pieces of 16 bytes, from consecutive global memory, by so many threads. */
template <int PIECES, int ROWS_, int THREADS> DEVICE void fetch_tile(uint32_t to, const void *from)
{
    static_assert(THREADS / PIECES % 8 == 0 && ROWS_ * PIECES % THREADS == 0, "every copy of a thread swizzles alike");
    to += swizzled<PIECES>(threadIdx.x / PIECES, threadIdx.x % PIECES);
    const char *mine = (const char *)from + threadIdx.x * 16;
#pragma unroll
    for (int i = 0; i < ROWS_ * PIECES / THREADS; i++) copy_async(to + i * THREADS * 16, mine + i * THREADS * 16);
}

DEVICE void put_split(char *hi, char *lo, uint32_t at_byte, float a, float b)
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
    const uint32_t lane = threadIdx.x % 32, group = p.n_heads / p.ring.n_kv_heads, d = p.ring.head_dim;
    float x[N][DP / 32];
#pragma unroll
    for (int n = 0; n < N; n++) {
        uint32_t row = row0 + r + n * step, query = row / group;
        const float *q = at<const float>(p.q) + ((size_t)query * p.n_heads + head * group + row - query * group) * d;
#pragma unroll
        for (int i = 0; i < DP / 32; i++) {
            uint32_t e = i / 2 * 64 + lane * 2 + i % 2;
            x[n][i] = row < (uint32_t)n_rows && e < d ? __ldcg(q + e) : 0;
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
            put_split(hi, lo, swizzled<DP / 8>(r, piece) + lane % 4 * 4, x[n][2 * i] * up, x[n][2 * i + 1] * up);
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

/* Softmax of the block: score becomes the split weights in w_hi, w_lo; maximum (log2) and weight a row. */
DEVICE void softmax(const sur_gpu_attend &p, float (&score)[2][4], const float *factor, int64_t first, int64_t key0,
                    int row0, char *w_hi, char *w_lo, float (*room)[ROWS], float *most, float *weight)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = p.n_heads / p.ring.n_kv_heads;
    float top[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int r = lane / 4 + 8 * h;
        range seen = seen_by(p, first, (row0 + r) / group);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int64_t key = key0 + warp * 16 + i / 2 * 8 + lane % 4 * 2 + i % 2;
            float &s = score[i / 2][2 * h + i % 2];
            s = key >= seen.from && key <= seen.to ? __fmul_rn(s, factor[r]) : -INFINITY;
            top[h] = fmaxf(top[h], s);
        }
        for (int step = 1; step < 4; step <<= 1) top[h] = fmaxf(top[h], __shfl_xor_sync(~0u, top[h], step));
        if (lane % 4 == 0) room[warp][r] = top[h];
    }
    sync_256();
    float sum[2];
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int r = lane / 4 + 8 * h;
        float m = room[0][r];
        for (int i = 1; i < WARPS; i++) m = fmaxf(m, room[i][r]);
        float w[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float s = score[i / 2][2 * h + i % 2];
            w[i] = s == -INFINITY ? 0 : exp2_fast(__fsub_rn(s, m));
        }
        sum[h] = __fadd_rn(__fadd_rn(w[0], w[1]), __fadd_rn(w[2], w[3]));
        for (int step = 1; step < 4; step <<= 1) sum[h] = __fadd_rn(sum[h], __shfl_xor_sync(~0u, sum[h], step));
#pragma unroll
        for (int i = 0; i < 2; i++)
            put_split(w_hi, w_lo, swizzled<KEYS / 8>(r, warp * 2 + i) + lane % 4 * 4, w[2 * i] * WEIGHT_SCALE,
                      w[2 * i + 1] * WEIGHT_SCALE);
        if (warp == 0 && lane % 4 == 0) most[r] = m;
    }
    sync_256();
    if (lane % 4 == 0) room[warp][lane / 4] = sum[0], room[warp][lane / 4 + 8] = sum[1];
    sync_256();
    if (threadIdx.x < ROWS) {
        float total = room[0][threadIdx.x];
        for (int i = 1; i < WARPS; i++) total = __fadd_rn(total, room[i][threadIdx.x]);
        weight[threadIdx.x] = total;
    }
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

template <int DP> DEVICE void write_out(const sur_gpu_attend &p, int head, int row, int e, float v)
{
    const int group = p.n_heads / p.ring.n_kv_heads, d = p.ring.head_dim;
    if (e < d) at<float>(p.out)[((size_t)(row / group) * p.n_heads + head * group + row % group) * d + e] = v;
}

/* Merges the blocks of a row group: partial [blocks][16][DP + 4], through shared memory. */
template <int DP>
static __device__ void merge(const sur_gpu_attend &p, int head, const float *partial, int n_blocks, int row0, int rows,
                             char *room, int room_bytes, float (*factors)[32][2])
{
    constexpr int SPLIT = WARPS * 32 / DP; /* threads that share an element's rows */
    constexpr int ROW = SUR_GPU_PARTIAL(DP), BLOCK = ROWS * ROW, PIECES = ROW / 4;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, e = threadIdx.x % DP, part = threadIdx.x / DP;
    const int fit = room_bytes / (rows * ROW * 4), batch = fit < 32 ? fit : 32;
    const float *all = (const float *)room;
    float sum[ROWS / SPLIT] = {0}, weight[ROWS / SPLIT] = {0}, run[2] = {-INFINITY, -INFINITY};
    for (int base = 0; base < n_blocks; base += batch) {
        int n = n_blocks - base < batch ? n_blocks - base : batch;
        sync_256();
        for (int i = threadIdx.x; i < n * rows * PIECES; i += WARPS * 32) {
            int block = i / (rows * PIECES), piece = i % (rows * PIECES);
            copy_async(shared_address(room) + i * 16, partial + (size_t)(base + block) * BLOCK + piece * 4);
        }
        copy_commit();
        copy_wait<0>();
        sync_256();
        for (int i = 0; i < 2; i++) {
            int r = warp * 2 + i;
            float a, b, most = lane < n && r < rows ? all[(lane * rows + r) * ROW + DP] : -INFINITY;
            merge_factors(most, run[i], a, b);
            factors[r][lane][0] = a, factors[r][lane][1] = b;
        }
        sync_256();
#pragma unroll
        for (int i = 0; i < ROWS / SPLIT; i++) {
            int r = i * SPLIT + part;
            if (r >= rows) break;
#pragma unroll 4
            for (int b = 0; b < n; b++) {
                const float *from = all + (b * rows + r) * ROW;
                float2 f = *(const float2 *)factors[r][b];
                sum[i] = __fmaf_rn(from[e], f.y, __fmul_rn(sum[i], f.x));
                weight[i] = __fmaf_rn(from[DP + 1], f.y, __fmul_rn(weight[i], f.x));
            }
        }
    }
#pragma unroll
    for (int i = 0; i < ROWS / SPLIT; i++) {
        int r = i * SPLIT + part;
        if (r < rows) write_out<DP>(p, head, row0 + r, e, __fdiv_rn(sum[i], weight[i]));
    }
}

/* What a thread has gathered of its two rows when its thread block takes all blocks of keys: merged as merge does. */
template <int DP> struct gathered {
    float sum[DP / 64][4], weight[2], run[2];

    DEVICE_MEMBER void add(const float (&block)[DP / 64][4], const float *most, const float *block_weight)
    {
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int r = threadIdx.x % 32 / 4 + 8 * h;
            float m = most[r], now = fmaxf(run[h], m);
            float a = now == -INFINITY ? 1 : exp2_fast(__fsub_rn(run[h], now));
            float b = m == -INFINITY ? 0 : exp2_fast(__fsub_rn(m, now));
            run[h] = now;
            weight[h] = __fmaf_rn(block_weight[r], b, __fmul_rn(weight[h], a));
#pragma unroll
            for (int i = 0; i < DP / 64 * 2; i++) {
                float &s = sum[i / 2][2 * h + i % 2];
                s = __fmaf_rn(block[i / 2][2 * h + i % 2], b, __fmul_rn(s, a));
            }
        }
    }
    DEVICE_MEMBER void write(const sur_gpu_attend &p, int head, int row0, int rows, int lane, int warp) const
    {
#pragma unroll
        for (int i = 0; i < DP / 64 * 4; i++) {
            int h = i % 4 / 2, r = lane / 4 + h * 8, e = warp * (DP / 8) + i / 4 * 8 + lane % 4 * 2 + i % 2;
            if (r < rows) write_out<DP>(p, head, row0 + r, e, __fdiv_rn(sum[i / 4][i % 4], weight[h]));
        }
    }
};

/* What a block takes: K/V head `head`, row group `rows`, every n_takers-th block of keys from `taker` on. */
struct share {
    int taker, n_takers, head, group, n_groups;
};

/* Bytes of shared memory: keys, values, queries and weights, the last two split. */
template <int DP> constexpr int ATTEND_BYTES = 4 * ((KEYS + ROWS) * DP + ROWS * KEYS);

/* By 256 threads. wait() returns when what earlier kernels wrote may be read; it may be called twice.
 * This function is long: its steps share nearly all that it holds. */
template <int DP, typename WAIT>
static __device__ void attend(const sur_gpu_attend &p, const share &my, char *shared, WAIT wait)
{
    const int head = my.head;
    char *keys = shared, *values = keys + KEYS * DP * 2, *q_hi = values + KEYS * DP * 2, *q_lo = q_hi + ROWS * DP * 2;
    char *w_hi = q_lo + ROWS * DP * 2, *w_lo = w_hi + ROWS * KEYS * 2;
    __shared__ float factor[ROWS], most[ROWS], weight[ROWS], room[WARPS][ROWS], factors[ROWS][32][2];
    __shared__ bool last;
    const int group = p.n_heads / p.ring.n_kv_heads, n_rows = p.n * group, row0 = my.group * ROWS;
    const int rows = n_rows - row0 < ROWS ? n_rows - row0 : ROWS, lane = threadIdx.x % 32, warp = threadIdx.x / 32;

    /* The position was written at least two kernels ago; so was every block that no query's own position lies in. */
    int64_t first = *at<const int64_t>(p.position);
    int64_t from = seen_by(p, first, row0 / group).from / KEYS, to = (first + (row0 + rows - 1) / group) / KEYS;
    int n_blocks = (int)(to - from) + 1, takers = n_blocks < my.n_takers ? n_blocks : my.n_takers;
    int64_t block = from + my.taker;
    const bool mine = block <= to, alone = takers == 1;
    const size_t head_at = (size_t)head * p.ring.n_blocks;
    auto tile_at = [&](sur_gpu_ptr ring, int64_t b) {
        return at<const __half>(ring) + (head_at + (uint32_t)b % (uint32_t)p.ring.n_blocks) * KEYS * DP;
    };
    auto fetch_keys = [&](int64_t b) {
        if (b <= to) fetch_tile<DP / 8, KEYS, WARPS * 32>(shared_address(keys), tile_at(p.ring.k, b));
        copy_commit();
    };
    auto fetch_values = [&](int64_t b) {
        if (b <= to) fetch_tile<KEYS / 8, DP, WARPS * 32>(shared_address(values), tile_at(p.ring.v, b));
        copy_commit();
    };
    if (mine && (block + 1) * KEYS > first) wait();
    fetch_keys(block);
    fetch_values(block);
    wait();
    if (!mine) return;

    read_queries<DP, ROWS / WARPS>(p, head, row0, n_rows, warp, WARPS, q_hi, q_lo, factor);
    size_t group_at = (size_t)head * my.n_groups + my.group;
    float *partial = at<float>(p.partial) + group_at * p.max_blocks * ROWS * SUR_GPU_PARTIAL(DP);
    gathered<DP> all = {{}, {0, 0}, {-INFINITY, -INFINITY}};
    for (; block <= to; block += my.n_takers) {
        float score[2][4] = {}, sum[DP / 64][4] = {};
        copy_wait<1>();
        sync_256();
        scores<DP>(score, shared_address(q_hi), shared_address(q_lo), shared_address(keys));
        sync_256();
        fetch_keys(block + my.n_takers);
        softmax(p, score, factor, first, block * KEYS, row0, w_hi, w_lo, room, most, weight);
        copy_wait<1>();
        sync_256();
        weigh<DP>(sum, shared_address(w_hi), shared_address(w_lo), shared_address(values));
#pragma unroll
        for (int i = 0; i < DP / 64 * 4; i++) sum[i / 4][i % 4] *= 1 / WEIGHT_SCALE;
        if (alone) {
            all.add(sum, most, weight);
        } else {
            float *to_block = partial + (size_t)(block - from) * ROWS * SUR_GPU_PARTIAL(DP);
#pragma unroll
            for (int i = 0; i < DP / 64 * 4; i++) {
                int r = lane / 4 + i % 4 / 2 * 8, e = warp * (DP / 8) + i / 4 * 8 + lane % 4 * 2 + i % 2;
                if (r < rows) __stcg(to_block + r * SUR_GPU_PARTIAL(DP) + e, sum[i / 4][i % 4]);
            }
            if (threadIdx.x < rows) {
                __stcg(to_block + threadIdx.x * SUR_GPU_PARTIAL(DP) + DP, most[threadIdx.x]);
                __stcg(to_block + threadIdx.x * SUR_GPU_PARTIAL(DP) + DP + 1, weight[threadIdx.x]);
            }
        }
        sync_256();
        fetch_values(block + my.n_takers);
    }
    if (alone) {
        all.write(p, head, row0, rows, lane, warp);
        return;
    }
    __threadfence();
    sync_256();
    if (threadIdx.x == 0) last = atomicAdd(at<int>(p.counters) + group_at, 1) == takers - 1;
    sync_256();
    if (!last) return;
    __threadfence();
    if (threadIdx.x == 0) at<int>(p.counters)[group_at] = 0;
    merge<DP>(p, head, partial, n_blocks, row0, rows, shared, ATTEND_BYTES<DP>, factors);
}
