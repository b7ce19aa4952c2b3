/* Attention for more than 8 queries: four warps share 64 rows, so that keys and values pass through shared memory once
 * per 64 rows.
 *
 * A warp has 16 rows and all keys of a block. It does alone, and in the same order, what several warps of attend.cu do
 * together, so the bits are the same. It takes only the key blocks that its 16 rows see. */
#include "attend.cuh"

#define ROW_WARPS  4
#define WARP_ROWS  16
#define GROUP_ROWS (WARP_ROWS * ROW_WARPS)

/* score[i] of lane 4 g + t: rows g and g + 8 of the warp, keys 8 i + 2 t and 8 i + 2 t + 1. */
template <int DP> DEVICE void all_scores(float (&score)[KEYS / 8][4], uint32_t q_hi, uint32_t q_lo, uint32_t keys)
{
    const int lane = threadIdx.x % 32, m = lane / 8, r = lane % 8;
    const int q_row = threadIdx.x / 32 * WARP_ROWS + (m & 1) * 8 + r, key = (m >> 1) * 8 + r;
#pragma unroll
    for (int from = 0; from < KEYS; from += 64) { /* chains of eight tiles side by side, high and low */
        float low[8][4] = {};
#pragma unroll
        for (int s = 0; s < DP / 16; s++) {
            uint32_t hi[4], lo[4], b[4][4];
            const uint32_t at_q = swizzled<DP / 8>(q_row, 2 * s + (m >> 1));
            load_matrix4(hi, q_hi + at_q);
            load_matrix4(lo, q_lo + at_q);
#pragma unroll
            for (int i = 0; i < 4; i++)
                load_matrix4(b[i], keys + swizzled<DP / 8>(from + i * 16 + key, 2 * s + (m & 1)));
#pragma unroll
            for (int i = 0; i < 8; i++) mma_fp16(low[i], lo, b[i / 2][i % 2 * 2], b[i / 2][i % 2 * 2 + 1]);
#pragma unroll
            for (int i = 0; i < 8; i++) mma_fp16(score[from / 8 + i], hi, b[i / 2][i % 2 * 2], b[i / 2][i % 2 * 2 + 1]);
        }
#pragma unroll
        for (int i = 0; i < 8; i++) add_halves(score[from / 8 + i], low[i]);
    }
}

/* Splits two weights into high and low halves, as mma takes them. */
DEVICE void split_weights(uint32_t &hi, uint32_t &lo, float a, float b)
{
    a *= WEIGHT_SCALE;
    b *= WEIGHT_SCALE;
    __half2 high = __halves2half2(__float2half_rn(a), __float2half_rn(b));
    __half2 low = __halves2half2(__float2half_rn(__fsub_rn(a, __low2float(high))),
                                 __float2half_rn(__fsub_rn(b, __high2float(high))));
    hi = *(const uint32_t *)&high;
    lo = *(const uint32_t *)&low;
}

/* Softmax of a block: the split weights, as input of the second product, and maximum and sum of each of the thread's
 * two rows. Row h sees keys from[h] .. to[h] of the block. */
DEVICE void all_weights(float (&score)[KEYS / 8][4], const float *factor, const int *from, const int *to,
                        uint32_t (&w_hi)[KEYS / 16][4], uint32_t (&w_lo)[KEYS / 16][4], float *most, float *weight)
{
    const int lane = threadIdx.x % 32;
    const bool all = from[0] <= 0 && from[1] <= 0 && to[0] >= KEYS - 1 && to[1] >= KEYS - 1;
    if (!__all_sync(~0u, all)) {
#pragma unroll
        for (int i = 0; i < KEYS / 2; i++) {
            int key = i / 4 * 8 + lane % 4 * 2 + i % 2, h = i % 4 / 2;
            float &s = score[i / 4][i % 4];
            if (key < from[h] || key > to[h]) s = -INFINITY; /* and so it is once scaled */
        }
    }
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float top = -INFINITY;
#pragma unroll
        for (int i = 0; i < KEYS / 4; i++) {
            float &s = score[i / 2][2 * h + i % 2];
            s = __fmul_rn(s, factor[h]);
            top = fmaxf(top, s);
        }
        for (int step = 1; step < 4; step <<= 1) top = fmaxf(top, __shfl_xor_sync(~0u, top, step));
        most[h] = top;
        float below = top == -INFINITY ? 0 : top; /* then every weight is exp2(-inf): 0 */
#pragma unroll
        for (int j = 0; j < KEYS / 16; j++) {
            float w[4];
#pragma unroll
            for (int i = 0; i < 4; i++) w[i] = exp2_fast(__fsub_rn(score[2 * j + i / 2][2 * h + i % 2], below));
            float sum = __fadd_rn(__fadd_rn(w[0], w[1]), __fadd_rn(w[2], w[3]));
            for (int step = 1; step < 4; step <<= 1) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, step));
            weight[h] = j ? __fadd_rn(weight[h], sum) : sum;
            split_weights(w_hi[j][h], w_lo[j][h], w[0], w[1]);
            split_weights(w_hi[j][h + 2], w_lo[j][h + 2], w[2], w[3]);
        }
    }
}

/* What a thread has summed of its two rows so far: of each 8 of the DP elements 2 t and 2 t + 1. */
template <int DP> struct gathered {
    float sum[DP / 8][4], weight[2], run[2];

    DEVICE_MEMBER void add(const uint32_t (&w_hi)[KEYS / 16][4], const uint32_t (&w_lo)[KEYS / 16][4], uint32_t values,
                           const float *most, const float *block_weight)
    {
        const int lane = threadIdx.x % 32, m = lane / 8, row = (m >> 1) * 8 + lane % 8;
        float a[2], b[2];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float now = fmaxf(run[h], most[h]);
            a[h] = now == -INFINITY ? 1 : exp2_fast(__fsub_rn(run[h], now));
            b[h] = most[h] == -INFINITY ? 0 : exp2_fast(__fsub_rn(most[h], now));
            run[h] = now;
            weight[h] = __fmaf_rn(block_weight[h], b[h], __fmul_rn(weight[h], a[h]));
        }
#pragma unroll
        for (int e = 0; e < DP; e += 32) {
            float block[4][4] = {}, low[4][4] = {};
#pragma unroll
            for (int s = 0; s < KEYS / 16; s++) {
                uint32_t v[2][4];
#pragma unroll
                for (int i = 0; i < 2; i++)
                    load_matrix4(v[i], values + swizzled<KEYS / 8>(e + i * 16 + row, 2 * s + (m & 1)));
#pragma unroll
                for (int i = 0; i < 4; i++) mma_fp16(low[i], w_lo[s], v[i / 2][i % 2 * 2], v[i / 2][i % 2 * 2 + 1]);
#pragma unroll
                for (int i = 0; i < 4; i++) mma_fp16(block[i], w_hi[s], v[i / 2][i % 2 * 2], v[i / 2][i % 2 * 2 + 1]);
            }
#pragma unroll
            for (int i = 0; i < 4; i++) add_halves(block[i], low[i]);
#pragma unroll
            for (int i = 0; i < 16; i++) {
                float &s = sum[e / 8 + i / 4][i % 4];
                s = __fmaf_rn(block[i / 4][i % 4] * (1 / WEIGHT_SCALE), b[i % 4 / 2], __fmul_rn(s, a[i % 4 / 2]));
            }
        }
    }
    DEVICE_MEMBER void write(const sur_gpu_attend &p, int head, int row0, int n_rows) const
    {
        const int lane = threadIdx.x % 32, d = p.ring.head_dim, group = group_of(p);
        const split_places to(p.hi, p.lo, p.pitch);
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const int row = row0 + lane / 4 + 8 * h;
            if (row >= n_rows) continue;
            const int query = floor_times(row, a_group(group)), first = (head * group + row - query * group) * d;
            const float one = reciprocal(weight[h]);
#pragma unroll
            for (int i = 0; i < DP / 8; i++) {
                const int e = i * 8 + lane % 4 * 2; /* and the next: head_dim is even */
                if (e >= d) break;
                const float x = __fmul_rn(sum[i][2 * h], one), y = __fmul_rn(sum[i][2 * h + 1], one);
                if (p.out)
                    *(float2 *)(at<float>(p.out) + (size_t)query * p.n_heads * d + first + e) = make_float2(x, y);
                if (!p.hi) continue;
                const size_t half = to.index(query, first + e);
                split_pair(*(__nv_bfloat162 *)(to.hi + half), *(__nv_bfloat162 *)(to.lo + half), x, y);
            }
        }
    }
};

/* 128 threads; thread block (row group of 64, K/V head). BUFFERS: of keys and values; with 2 they arrive one block
 * ahead. This function is long: its steps share nearly all of its variables. */
template <int DP, int BUFFERS> static __device__ void attend_many(const sur_gpu_attend &p)
{
    /* split queries; keys and values of each buffer: 4 (GROUP_ROWS + BUFFERS KEYS) DP bytes */
    DYNAMIC_SHARED(shared, 128);
    constexpr uint32_t TILE = KEYS * DP * 2;
    char *q_hi = shared, *q_lo = q_hi + GROUP_ROWS * DP * 2;
    const uint32_t buffers = shared_address(q_lo + GROUP_ROWS * DP * 2);
    __shared__ float factors[GROUP_ROWS];
    const int group = p.n_heads / p.ring.n_kv_heads, n_rows = p.n * group, row0 = blockIdx.x * GROUP_ROWS;
    const int head = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32, my_row0 = row0 + warp * WARP_ROWS;
    auto last_of = [&](int row, int n) { return (n_rows - row < n ? n_rows : row + n) - 1; };

    /* The position, and every block without a position of this pass, were written at least two kernels ago: they are
     * read before the wait (see instructions.cuh). */
    const int64_t first = *at<const int64_t>(p.position);
    const int64_t to = (first + last_of(row0, GROUP_ROWS) / group) / KEYS;
    int64_t block = seen_by(p, first, row0 / group).from / KEYS;
    /* the blocks that the warp's rows see; none if it has no rows */
    const int64_t my_from = my_row0 < n_rows ? seen_by(p, first, my_row0 / group).from / KEYS : to + 1;
    const int64_t my_to = (first + last_of(my_row0, WARP_ROWS) / group) / KEYS;
    auto fetch = [&](int64_t b, int buffer) {
        size_t at_block = ((size_t)head * p.ring.n_blocks + (uint32_t)b % (uint32_t)p.ring.n_blocks) * KEYS * DP;
        uint32_t to_keys = buffers + buffer * 2 * TILE;
        if (b > to) return;
        fetch_block<DP, ROW_WARPS * 32, false>(to_keys, at<const __half>(p.ring.k) + at_block, {0, 0});
        fetch_block<DP, ROW_WARPS * 32, true>(to_keys + TILE, at<const __half>(p.ring.v) + at_block, {0, 0});
        copy_commit();
    };
    if ((block + 1) * KEYS > first) wait_for_previous();
    fetch(block, 0);
    wait_for_previous();
    let_next_start();

    read_queries<DP, WARP_ROWS>(p, head, row0, n_rows, warp * WARP_ROWS, 1, q_hi, q_lo, factors);
    __syncwarp();
    float factor[2];
    range seen[2];
    for (int h = 0; h < 2; h++) {
        factor[h] = factors[warp * WARP_ROWS + lane / 4 + 8 * h];
        seen[h] = seen_by(p, first, (my_row0 + lane / 4 + 8 * h) / group);
    }
    gathered<DP> all = {{}, {0, 0}, {-INFINITY, -INFINITY}};
    int buffer = 0;
#pragma unroll 1
    for (; block <= to; block++, buffer = (buffer + 1) % BUFFERS) {
        const uint32_t keys = buffers + buffer * 2 * TILE;
        copy_wait<0>();
        __syncthreads(); /* the block has arrived for all warps, and all have finished with the other buffer */
        if (BUFFERS == 2) fetch(block + 1, buffer ^ 1);
        if (block >= my_from && block <= my_to) {
            float score[KEYS / 8][4] = {}, most[2], weight[2];
            uint32_t w_hi[KEYS / 16][4], w_lo[KEYS / 16][4];
            int from_key[2], to_key[2]; /* within the block; a window spans at most 2^20 keys */
            for (int h = 0; h < 2; h++) {
                from_key[h] = (int)(seen[h].from - block * KEYS);
                to_key[h] = (int)(seen[h].to - block * KEYS);
            }
            all_scores<DP>(score, shared_address(q_hi), shared_address(q_lo), keys);
            all_weights(score, factor, from_key, to_key, w_hi, w_lo, most, weight);
            all.add(w_hi, w_lo, keys + TILE, most, weight);
        }
        if (BUFFERS == 1) {
            __syncthreads();
            fetch(block + 1, 0);
        }
    }
    if (my_row0 < n_rows) all.write(p, head, my_row0, n_rows);
}

extern "C" __global__ void __launch_bounds__(ROW_WARPS * 32) k_attend_many_64(const __grid_constant__ sur_gpu_attend p)
{
    attend_many<64, 2>(p);
}
extern "C" __global__ void __launch_bounds__(ROW_WARPS * 32) k_attend_many_128(const __grid_constant__ sur_gpu_attend p)
{
    attend_many<128, 1>(p);
}
