/* Attention over a ring of keys and values for few queries: online softmax, split over blocks of 128 keys. And
 * k_attend_plain, for other sizes of heads and rings of fp32.
 *
 * A thread block has 8 rows (a query and a head of the group) and every gridDim.x-th block of keys, on the tensor
 * cores: keys and values are mma's 16 rows, queries and weights its 8 columns, split into two fp16 halves (22 bits;
 * powers of two keep them in range); keys and values are exact. High and low halves have separate chains of sums. The
 * thread blocks of a row group that finish last merge the key blocks in ascending order, so no bit depends on which of
 * them came last. Keys and values are fetched before the kernel that writes the newest ones has ended, all but those.
 */
#include "attend.cuh"

#define ROWS       SUR_GPU_ATTEND_ROWS
#define WARPS      8
#define FEW_BLOCKS 16   /* up to so many key blocks are merged by one thread block */
#define MERGERS    4    /* thread blocks that merge more key blocks */
#define MANY       64   /* key blocks that each of them merges at a time */
#define MOST_LOOKS 4096 /* at a counter before a thread block gives up waiting; each takes half a microsecond */

/* Copies the pieces of up to 8 slots, which fetch_block left out. */
template <int DP, int THREADS>
DEVICE void fetch_slots(uint32_t to_keys, const __half *keys, uint32_t to_values, const __half *values,
                        const slots &these)
{
    static_assert(SUR_GPU_SKINNY_COLUMNS * DP / 8 <= THREADS && 2 * DP <= THREADS,
                  "at most one piece of each per thread");
    const int key_piece = these.from * DP / 8 + threadIdx.x, element = threadIdx.x % DP;
    const int eight = these.from / 8 + threadIdx.x / DP;
    if (key_piece < these.to * DP / 8) copy_async(to_keys + key_piece * 16, keys + key_piece * 8);
    const uint32_t at_byte = swizzled<KEYS / 8>(element, eight);
    if (these.share(eight)) copy_async(to_values + at_byte, (const char *)values + at_byte);
}

/* score[2 i + j] of lane 4 g + t: key 16 warp + g + 8 i, row 2 t + j. q: the high halves; the low ones follow. */
template <int DP> DEVICE void scores(float (&score)[4], uint32_t q, uint32_t keys)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, m = lane / 8, r = lane % 8;
    const uint32_t half = q + (m >> 1) * (ROWS * DP * 2);
    float low[4] = {};
#pragma unroll
    for (int s = 0; s < DP / 16; s++) {
        uint32_t a[4], b[4];
        load_matrix4(a, keys + swizzled<DP / 8>(warp * 16 + (m & 1) * 8 + r, 2 * s + (m >> 1)));
        load_matrix4(b, half + swizzled<DP / 8>(r, 2 * s + (m & 1)));
        mma_fp16(low, a, b[2], b[3]);
        mma_fp16(score, a, b[0], b[1]);
    }
    add_halves(score, low);
}

/* Softmax of a block: turns the scores into split weights w, fp16 [hi, lo][KEYS][ROWS]. see[j]: the last key of the
 * block that the thread's row 2 t + j sees. The warps meet twice: in first() all have finished with the keys; after
 * second() the weights are complete, and so are sums [WARPS][ROWS] of them, for total_weight. */
template <typename FIRST, typename SECOND>
DEVICE void softmax(float (&score)[4], const float *factor, const int *see, int window, char *w, float (*tops)[ROWS],
                    float (*sums)[ROWS], float (&most)[2], FIRST first, SECOND second)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane % 4 * 2, key = warp * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < 2; j++) {
        const float f = factor[row + j];
        most[j] = -INFINITY;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int before = see[j] - (key + 8 * i); /* distance to the last key that is seen */
            float &s = score[2 * i + j];
            s = before >= 0 && before < window ? __fmul_rn(s, f) : -INFINITY;
            most[j] = fmaxf(most[j], s);
        }
        for (int step = 4; step < 32; step <<= 1) most[j] = fmaxf(most[j], __shfl_xor_sync(~0u, most[j], step));
        if (lane < 4) tops[warp][row + j] = most[j];
    }
    first();
    float weight[4]; /* as score */
#pragma unroll
    for (int j = 0; j < 2; j++) {
#pragma unroll
        for (int i = 0; i < WARPS; i++) most[j] = fmaxf(most[j], tops[i][row + j]);
        const float below = most[j] == -INFINITY ? 0 : most[j]; /* then every weight is exp2(-inf): 0 */
        float two[2]; /* sums of neighbouring keys: of the warp's first 8 keys, and of the other 8 */
#pragma unroll
        for (int i = 0; i < 2; i++) {
            weight[2 * i + j] = exp2_fast(__fsub_rn(score[2 * i + j], below));
            two[i] = __fadd_rn(weight[2 * i + j], __shfl_xor_sync(~0u, weight[2 * i + j], 4));
        }
        float sum = __fadd_rn(two[0], two[1]);
        for (int step = 8; step < 32; step <<= 1) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, step));
        if (lane < 4) sums[warp][row + j] = sum;
    }
#pragma unroll
    for (int i = 0; i < 2; i++)
        put_fp16_split(w, w + KEYS * ROWS * 2, ((key + 8 * i) * ROWS + row) * 2, weight[2 * i] * WEIGHT_SCALE,
                       weight[2 * i + 1] * WEIGHT_SCALE);
    second();
}

DEVICE float total_weight(const float (*sums)[ROWS], int r)
{
    float total = sums[0][r];
#pragma unroll
    for (int i = 1; i < WARPS; i++) total = __fadd_rn(total, sums[i][r]);
    return total;
}

/* Sums of values times weights. sum[2 i + j] of lane 4 g + t: element 16 warp + g + 8 i, row 2 t + j. */
DEVICE void weigh(float (&sum)[4], uint32_t w, uint32_t values)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, m = lane / 8, r = lane % 8;
    w += (m >> 1) * (KEYS * ROWS * 2) + ((m & 1) * 8 + r) * ROWS * 2;
    float low[4] = {};
#pragma unroll
    for (int s = 0; s < KEYS / 16; s++) {
        uint32_t a[4], b[4];
        load_matrix4(a, values + swizzled<KEYS / 8>(warp * 16 + (m & 1) * 8 + r, 2 * s + (m >> 1)));
        load_matrix4_transposed(b, w + s * 16 * ROWS * 2);
        mma_fp16(low, a, b[2], b[3]);
        mma_fp16(sum, a, b[0], b[1]);
    }
    add_halves(sum, low);
}

/* Where the result of a row goes. */
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

/* Which shares of its row group's merge this thread block does: one bit per share. One thread calls it, once the block
 * has finished all its key blocks. The last `mergers` of the takers to finish have one share each, and wait until all
 * takers have finished. A thread block that has waited long leaves its share to the last taker, which has the highest
 * share: waiting blocks may occupy the multiprocessors that the others need to begin. The counter has the number of
 * takers that have finished, and in its upper half the shares that were left; it is 0 once all have finished. */
DEVICE uint32_t shares_of(int *counter, int takers, int mergers)
{
    const int before = count_at(counter), finished = before & 0xffff, mine = finished - (takers - mergers);
    if (mine < 0) return 0;
    const uint32_t share = 1u << mine;
    if (finished == takers - 1) return share | (uint32_t)before >> 16;
    auto all_finished = [&](int now) { return now == 0 || (now & 0xffff) == takers; };
    int now = 0;
#pragma unroll 1
    for (int looks = 0; looks < MOST_LOOKS; looks++) {
        now = look_at(counter);
        if (all_finished(now)) return share;
    }
    for (;;) {
        const int then = swap_at(counter, now, now | (int)(share << 16));
        if (then == now) return 0;
        if (all_finished(then)) return share;
        now = then;
    }
}

/* Results of a row's key blocks, in the order of the blocks: sums of values, not yet divided; maximum and weight. */
struct partial_row {
    float *sums;  /* of a block: ROWS * DP after those of the block before */
    float2 *tops; /* maximum, weight; ROWS after those of the block before */

    template <int DP> DEVICE_MEMBER static partial_row of(const sur_gpu_attend &p, int head, int r)
    {
        const size_t of_group = (size_t)p.max_blocks * ROWS, at_group = (size_t)head * gridDim.z + blockIdx.z;
        float *base = at<float>(p.partial) + at_group * of_group * SUR_GPU_PARTIAL(DP);
        return {base + r * DP, (float2 *)(base + of_group * DP) + r};
    }
};

/* Factors for the merge of up to 32 N blocks, of which a lane has N. When a block is added, the sums so far are
 * multiplied by its x and its own sums by its y; z is its weight. All lanes call it. run: the maximum so far, in and
 * out. */
template <int N> DEVICE void merge_factors(float4 (&factors)[N], const float2 (&tops)[N], float &run)
{
    const int lane = threadIdx.x % 32;
    float most = tops[0].x;
#pragma unroll
    for (int i = 1; i < N; i++) most = fmaxf(most, tops[i].x);
    for (int step = 1; step < 32; step <<= 1) {
        const float other = __shfl_up_sync(~0u, most, step);
        if (lane >= step) most = fmaxf(most, other);
    }
    most = fmaxf(most, run);
    float before = __shfl_up_sync(~0u, most, 1);
    if (lane == 0) before = run;
#pragma unroll
    for (int i = 0; i < N; i++) {
        const float now = fmaxf(before, tops[i].x);
        factors[i].x = now == -INFINITY ? 1 : exp2_fast(__fsub_rn(before, now));
        factors[i].y = tops[i].x == -INFINITY ? 0 : exp2_fast(__fsub_rn(tops[i].x, now));
        factors[i].z = tops[i].y;
        before = now;
    }
    run = __shfl_sync(~0u, most, 31);
}

/* Merges the key blocks of a row group when they are few. A warp takes 64 elements of a row at a time, two per lane;
 * each of 8 lanes holds the maximum and weight of one of 8 blocks. */
template <int DP> DEVICE void merge_few(const sur_gpu_attend &p, int group, int head, int n_blocks, int row0, int rows)
{
    constexpr int AT_ONCE = 8;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, e = warp % (DP / 64) * 64 + lane * 2;
    for (int r = warp / (DP / 64); r < rows; r += WARPS * 64 / DP) {
        partial_row from = partial_row::of<DP>(p, head, r);
        float2 sum = make_float2(0, 0);
        float weight = 0, run = -INFINITY;
        for (int n = n_blocks; n > 0; n -= AT_ONCE) {
            float2 top[1] = {make_float2(-INFINITY, 0)}, v[AT_ONCE];
            float4 mine[1];
            if (lane < n && lane < AT_ONCE) top[0] = __ldcg(from.tops + lane * ROWS);
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++)
                if (i < n) v[i] = __ldcg((const float2 *)(from.sums + i * ROWS * DP + e));
            merge_factors(mine, top, run);
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                const float before = __shfl_sync(~0u, mine[0].x, i), now = __shfl_sync(~0u, mine[0].y, i);
                const float w = __shfl_sync(~0u, mine[0].z, i);
                if (i >= n) continue;
                sum.x = __fmaf_rn(v[i].x, now, __fmul_rn(sum.x, before));
                sum.y = __fmaf_rn(v[i].y, now, __fmul_rn(sum.y, before));
                weight = __fmaf_rn(w, now, __fmul_rn(weight, before));
            }
            from.sums += AT_ONCE * ROWS * DP;
            from.tops += AT_ONCE * ROWS;
        }
        const float one = reciprocal(weight);
        if (e < p.ring.head_dim) result(p, group, head, row0 + r).put(e, __fmul_rn(sum.x, one), __fmul_rn(sum.y, one));
    }
}

/* Merges the key blocks of a row when they are many: MANY at a time are copied to shared memory. */
template <int DP>
DEVICE void merge_many(const sur_gpu_attend &p, int group, int head, int n_blocks, int row0, int r, float *scratch,
                       float4 (&factors)[MANY])
{
    constexpr int PIECES = DP / 4, TOGETHER = WARPS * 32 / PIECES;
    static_assert(MANY == 64 && MANY * DP <= (KEYS + ROWS) * DP + ROWS * KEYS,
                  "two per lane; the shared memory of the launch");
    const partial_row from = partial_row::of<DP>(p, head, r);
    const int lane = threadIdx.x % 32, e = threadIdx.x;
    float sum = 0, weight = 0, run = -INFINITY;
    for (int base = 0; base < n_blocks; base += MANY) {
        const int n = min(n_blocks - base, MANY), first = threadIdx.x / PIECES;
        const float *sums = from.sums + (size_t)(base + first) * (ROWS * DP) + threadIdx.x % PIECES * 4;
        sync_256(); /* the blocks before have been read */
#pragma unroll
        for (int b = 0; b < MANY; b += TOGETHER)
            if (first + b < n)
                copy_async(shared_address(scratch) + threadIdx.x * 16 + b * DP * 4, sums + b * ROWS * DP);
        copy_commit();
        if (threadIdx.x < 32) {
            float2 tops[2];
            float4 mine[2];
#pragma unroll
            for (int i = 0; i < 2; i++)
                tops[i] =
                    lane * 2 + i < n ? __ldcg(from.tops + (base + lane * 2 + i) * ROWS) : make_float2(-INFINITY, 0);
            merge_factors(mine, tops, run);
#pragma unroll
            for (int i = 0; i < 2; i++) factors[lane * 2 + i] = mine[i];
        }
        copy_wait<0>();
        sync_256();
        if (e >= DP) continue;
#pragma unroll 8
        for (int i = 0; i < n; i++) {
            const float4 f = factors[i];
            sum = __fmaf_rn(scratch[i * DP + e], f.y, __fmul_rn(sum, f.x));
            weight = __fmaf_rn(f.z, f.y, __fmul_rn(weight, f.x));
        }
    }
    const float x = __fmul_rn(sum, reciprocal(weight)), next = __shfl_xor_sync(~0u, x, 1);
    if (e % 2 == 0 && e < p.ring.head_dim) result(p, group, head, row0 + r).put(e, x, next);
}

/* The result of a merge of one block alone, whose sums and weights are in registers. */
template <int DP>
DEVICE void put_only(const sur_gpu_attend &p, int group, int head, int row0, int rows, const float (&sum)[4],
                     const float (&weight)[2])
{
    const int lane = threadIdx.x % 32,
              odd = lane / 4 & 1; /* the lane writes two neighbouring elements of one row, twice */
    const int row = lane % 4 * 2 + odd, e = threadIdx.x / 32 * 16 + lane / 4 - odd;
    const float one = reciprocal(odd ? weight[1] : weight[0]);
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const float mine = odd ? sum[2 * i + 1] : sum[2 * i], other = odd ? sum[2 * i] : sum[2 * i + 1];
        const float theirs = __shfl_xor_sync(~0u, other, 4);
        const float x[2] = {odd ? theirs : mine, odd ? mine : theirs};
        float y[2];
#pragma unroll
        for (int j = 0; j < 2; j++) y[j] = __fmul_rn(__fadd_rn(x[j] * (1 / WEIGHT_SCALE), 0), one);
        if (row < rows && e + 8 * i < p.ring.head_dim && e < DP)
            result(p, group, head, row0 + row).put(e + 8 * i, y[0], y[1]);
    }
}

/* 256 threads; thread block (taker, K/V head, row group of 8). A taker has every gridDim.x-th block of keys.
 * This function is long: its steps share nearly all of its variables. */
template <int DP> static __device__ void attend(const sur_gpu_attend &p)
{
    DYNAMIC_SHARED(shared, 128);
    constexpr uint32_t TILE = KEYS * DP * 2;
    char *q = shared + 2 * TILE, *w = q + ROWS * DP * 4;
    const uint32_t keys = shared_address(shared), values = keys + TILE;
    __shared__ float factor[ROWS], tops[WARPS][ROWS], sums[WARPS][ROWS];
    __shared__ uint32_t shares;
    __shared__ float4 factors[MANY];
    const int head = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32, group = group_of(p);
    const int n_rows = p.n * group, row0 = blockIdx.z * ROWS, rows = min(n_rows - row0, (int)ROWS);
    const int query0 = floor_times(row0, a_group(group)), query1 = floor_times(row0 + rows - 1, a_group(group));

    /* The position was written at least two kernels ago and is read before the wait (see instructions.cuh). Key blocks
     * are counted from the first one that a row sees. */
    const int64_t first = __ldcg(at<const int64_t>(p.position)), from = seen_by(p, first, query0).from / KEYS;
    const int n_blocks = (int)((first + query1) / KEYS - from) + 1, takers = min(n_blocks, (int)gridDim.x);
    int block = blockIdx.x, slot = (int)(((uint32_t)from + block) % (uint32_t)p.ring.n_blocks);
    const size_t head_at = (size_t)head * p.ring.n_blocks * KEYS * DP;
    auto block_of = [&](sur_gpu_ptr ring) { return at<const __half>(ring) + head_at + slot * (KEYS * DP); };
    auto fetch_keys = [&](const slots &but) {
        fetch_block<DP, WARPS * 32, false>(keys, block_of(p.ring.k), but);
        copy_commit();
    };
    auto fetch_values = [&](const slots &but) {
        fetch_block<DP, WARPS * 32, true>(values, block_of(p.ring.v), but);
        copy_commit();
    };
    /* The slots of the pass's own positions, which the kernel before is writing. Only a first block can have them:
     * later blocks are fetched after the wait. */
    const int64_t block0 = (from + block) * KEYS;
    const slots none = {0, 0},
                newest = {(int)(first > block0 ? first - block0 : 0), (int)min(first + p.n - block0, (int64_t)KEYS)};
    if (block < n_blocks) {
        fetch_keys(newest);
        fetch_values(newest);
    }
    wait_for_previous();
    let_next_start();
    if (block >= n_blocks) return;
    if (!newest.are_none()) fetch_slots<DP, WARPS * 32>(keys, block_of(p.ring.k), values, block_of(p.ring.v), newest);
    static_assert(ROWS == WARPS, "one row of queries per warp");
    read_queries<DP, 1>(p, head, row0, n_rows, warp, 0, q, q + ROWS * DP * 2, factor);
    if (!newest.are_none()) {
        copy_commit();
        copy_wait<0>();
    }

    const int row = lane % 4 * 2,
              e = warp * 16 + lane / 4; /* the first of the thread's two rows, and of its two elements */
    int see[2]; /* the last key that each of the thread's two rows sees, counted from the block's first key */
    for (int j = 0; j < 2; j++) see[j] = (int)(first - block0) + floor_times(row0 + row + j, a_group(group));
    const partial_row partial = partial_row::of<DP>(p, head, row);
    for (bool again = false;; again = true) {
        float score[4] = {}, sum[4] = {}, most[2], weight[2];
        if (again) {
            copy_wait<0>();
            sync_256();
            fetch_values(none);
        } else {
            copy_wait<1>();
            sync_256();
        }
        scores<DP>(score, shared_address(q), keys);
        const int this_block = block;
        softmax(
            score, factor, see, p.window, w, tops, sums, most,
            [&] {
                sync_256();
                block += gridDim.x;
                slot += gridDim.x;
                if (slot >= p.ring.n_blocks) slot -= p.ring.n_blocks;
                if (block < n_blocks)
                    fetch_keys(none);
                else
                    copy_commit(); /* keeps the number of groups */
            },
            [&] {
                copy_wait<1>();
                sync_256();
            });
        if (warp < DP / 16) weigh(sum, shared_address(w), values);
        for (int j = 0; j < 2; j++) {
            see[j] -= (int)gridDim.x * KEYS;
            weight[j] = total_weight(sums, row + j);
        }
        if (n_blocks == 1) {
            put_only<DP>(p, group, head, row0, rows, sum, weight);
            return;
        }
        float *sums_to = partial.sums + (size_t)this_block * (ROWS * DP) + e;
        float2 *top_to = partial.tops + (size_t)this_block * ROWS;
#pragma unroll
        for (int j = 0; j < 2; j++) {
            if (row + j >= rows) break;
            if (warp < DP / 16)
                for (int i = 0; i < 2; i++) __stcg(sums_to + j * DP + 8 * i, sum[2 * i + j] * (1 / WEIGHT_SCALE));
            if (e == 0) __stcg(top_to + j, make_float2(most[j], weight[j]));
        }
        if (block >= n_blocks) break;
    }
    sync_256();
    const int mergers = n_blocks <= FEW_BLOCKS ? 1 : min(takers, (int)MERGERS);
    int *counter = at<int>(p.counters) + head * gridDim.z + blockIdx.z;
    if (threadIdx.x == 0) shares = shares_of(counter, takers, mergers);
    sync_256();
    if (threadIdx.x == WARPS * 32 - 1 && shares >> (mergers - 1))
        put_released(counter, 0); /* a thread with little else to do */
    if (n_blocks <= FEW_BLOCKS) {
        if (shares) merge_few<DP>(p, group, head, n_blocks, row0, rows);
        return;
    }
    for (int share = 0; shares >> share; share++)
        for (int r = share; r < rows && shares >> share & 1; r += mergers)
            merge_many<DP>(p, group, head, n_blocks, row0, r, (float *)shared, factors);
}

extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) k_attend_64(const __grid_constant__ sur_gpu_attend p)
{
    attend<64>(p);
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) k_attend_128(const __grid_constant__ sur_gpu_attend p)
{
    attend<128>(p);
}

/* ---- plain ---- */

/* The maximum of all 128 threads' x, or their sum in a fixed tree. */
template <bool SUM> DEVICE float fold(float x, float *scratch)
{
    for (int step = 16; step; step >>= 1) {
        float other = __shfl_xor_sync(~0u, x, step);
        x = SUM ? __fadd_rn(x, other) : fmaxf(x, other);
    }
    __syncthreads();
    if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
    __syncthreads();
    return SUM ? __fadd_rn(__fadd_rn(__fadd_rn(scratch[0], scratch[1]), scratch[2]), scratch[3])
               : fmaxf(fmaxf(scratch[0], scratch[1]), fmaxf(scratch[2], scratch[3]));
}

/* One thread block of 128 threads per query and head: grid (n, n_heads). head_dim up to 512. */
extern "C" __global__ void __launch_bounds__(KEYS) k_attend_plain(const __grid_constant__ sur_gpu_attend p)
{
    __shared__ float q[512], w[KEYS], scratch[4];
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
        float most = fold<false>(s, scratch), now = fmaxf(run, most);
        w[t] = s == -INFINITY ? 0 : exp2_fast(__fsub_rn(s, most));
        float block_weight = fold<true>(w[t], scratch);
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
