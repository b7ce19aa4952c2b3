/* The narrow product: y = W x for 1 to 8 columns, bound by the bytes of W.
 *
 * A block takes whole tiles of rows; its warps share the tiles' segments of k. Each warp fetches its own stages of
 * weights ahead through shared memory, from before the kernel is allowed to read what the previous one wrote, so that
 * the memory never rests between two kernels. The input is read, normed and split by every block for itself: that is
 * cheaper than a kernel of its own. The segments' sums meet in shared memory, once a round of tiles. */
#pragma once

#include "common.cuh"
#include "narrow.h"

#define MAX_COLUMNS SUR_GPU_NARROW

/* ---- input ---- */

DEVICE uint32_t pack(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return (uint32_t)__bfloat16_as_ushort(a) | (uint32_t)__bfloat16_as_ushort(b) << 16;
}

/* hi, lo: [n][pitch + 8] in shared memory; i is divisible by 4. */
DEVICE void put4(__nv_bfloat16 *hi, __nv_bfloat16 *lo, int i, float4 v)
{
    __nv_bfloat16 h[4], l[4];
    split(v.x, h[0], l[0]), split(v.y, h[1], l[1]), split(v.z, h[2], l[2]), split(v.w, h[3], l[3]);
    *(uint2 *)(hi + i) = make_uint2(pack(h[0], h[1]), pack(h[2], h[3]));
    *(uint2 *)(lo + i) = make_uint2(pack(l[0], l[1]), pack(l[2], l[3]));
}

DEVICE float4 times(float4 v, float scale, float4 w)
{
    return make_float4(__fmul_rn(__fmul_rn(v.x, scale), w.x), __fmul_rn(__fmul_rn(v.y, scale), w.y),
                       __fmul_rn(__fmul_rn(v.z, scale), w.z), __fmul_rn(__fmul_rn(v.w, scale), w.w));
}

/* Normed runs of Q times 1024 elements or a little less, RUNS of them at once, so that all loads are in flight
 * together. Same order as rms_scale. */
template <int Q, int RUNS>
static __device__ void read_normed(const sur_gpu_product &p, __nv_bfloat16 *hi, __nv_bfloat16 *lo, float *room)
{
    const sur_gpu_input &in = p.in;
    const float *x = at<const float>(in.x) + (size_t)p.column0 * in.stride;
    const int runs_a_column = p.k / in.norm_k, n_runs = p.n * runs_a_column, column = p.pitch + 8, e = threadIdx.x * 4;
    const float4 zero = make_float4(0, 0, 0, 0);
    float4 w[Q];
#pragma unroll
    for (int i = 0; i < Q; i++)
        w[i] = threadIdx.x < 256 && e + i * 1024 < in.norm_k
                   ? __ldg((const float4 *)(at<const float>(in.norm) + e + i * 1024))
                   : zero;
    for (int run0 = 0; run0 < n_runs; run0 += RUNS) {
        float4 v[RUNS][Q];
        if (threadIdx.x < 256) {
#pragma unroll
            for (int r = 0; r < RUNS; r++) {
                int run = run0 + r;
                const float *from = x + (size_t)(run / runs_a_column) * in.stride + run % runs_a_column * in.norm_k + e;
#pragma unroll
                for (int i = 0; i < Q; i++)
                    v[r][i] =
                        run < n_runs && e + i * 1024 < in.norm_k ? __ldcg((const float4 *)(from + i * 1024)) : zero;
            }
#pragma unroll
            for (int r = 0; r < RUNS; r++) {
                float sum = 0;
#pragma unroll
                for (int i = 0; i < Q; i++) {
                    sum = __fmaf_rn(v[r][i].x, v[r][i].x, sum), sum = __fmaf_rn(v[r][i].y, v[r][i].y, sum);
                    sum = __fmaf_rn(v[r][i].z, v[r][i].z, sum), sum = __fmaf_rn(v[r][i].w, v[r][i].w, sum);
                }
                sum = fold_warp(sum);
                if (threadIdx.x % 32 == 0) room[r * 8 + threadIdx.x / 32] = sum;
            }
        }
        __syncthreads();
        if (threadIdx.x < 256)
#pragma unroll
            for (int r = 0; r < RUNS; r++) {
                int run = run0 + r, c = run / runs_a_column, to = c * column + run % runs_a_column * in.norm_k + e;
                if (run >= n_runs) break;
                float scale = rms_of(room + r * 8, in.norm_k, in.eps);
#pragma unroll
                for (int i = 0; i < Q; i++)
                    if (e + i * 1024 < in.norm_k) put4(hi, lo, to + i * 1024, times(v[r][i], scale, w[i]));
            }
        if (run0 + RUNS < n_runs) __syncthreads();
    }
}

/* The same for sizes that do not go by fours, or are large. */
static __device__ void read_any(const sur_gpu_product &p, __nv_bfloat16 *hi, __nv_bfloat16 *lo, float *room)
{
    const sur_gpu_input &in = p.in;
    const float *w = at<const float>(in.norm);
    const int column = p.pitch + 8, run = w ? in.norm_k : p.k;
    for (int c = 0; c < p.n; c++)
        for (int from = 0; from < p.k; from += run) {
            const float *x = at<const float>(in.x) + (size_t)(p.column0 + c) * in.stride + from;
            float scale = w ? rms_scale(x, run, in.eps, room) : 1;
            for (int i = threadIdx.x; i < run; i += blockDim.x) {
                float v = w ? __fmul_rn(__fmul_rn(__ldcg(x + i), scale), w[i]) : input_element(in, p.column0 + c, i);
                split(v, hi[c * column + from + i], lo[c * column + from + i]);
            }
            __syncthreads(); /* room is free again */
        }
}

/* Three taps of each channel: threads go along the channels, which lie side by side. */
static __device__ void read_taps(const sur_gpu_product &p, __nv_bfloat16 *hi, __nv_bfloat16 *lo)
{
    const int column = p.pitch + 8, channels = p.k / 3;
    for (int ct = 0; ct < p.n * 3; ct++) {
        int c = ct / 3, t = ct % 3;
        const float *x = at<const float>(p.in.x) + (size_t)((p.column0 + c) * p.in.taps + t) * p.in.stride;
#pragma unroll 4
        for (int i = threadIdx.x; i < channels; i += blockDim.x)
            split(__ldcg(x + i), hi[c * column + i * 3 + t], lo[c * column + i * 3 + t]);
    }
}

static __device__ void read_plain(const sur_gpu_product &p, __nv_bfloat16 *hi, __nv_bfloat16 *lo)
{
    enum { AT_ONCE = 8 };
    const int column = p.pitch + 8, fours = p.k / 4;
    const float *x = at<const float>(p.in.x) + (size_t)p.column0 * p.in.stride;
    int c = 0, i = threadIdx.x;
    while (c < p.n) {
        float4 v[AT_ONCE];
        int c0 = c, i0 = i;
#pragma unroll
        for (int s = 0; s < AT_ONCE; s++) {
            while (i >= fours && c < p.n) i -= fours, c++;
            if (c < p.n) v[s] = __ldcg((const float4 *)(x + (size_t)c * p.in.stride + i * 4));
            i += blockDim.x;
        }
        c = c0, i = i0;
#pragma unroll
        for (int s = 0; s < AT_ONCE; s++) {
            while (i >= fours && c < p.n) i -= fours, c++;
            if (c < p.n) put4(hi, lo, c * column + i * 4, v[s]);
            i += blockDim.x;
        }
    }
}

/* The block's split input: columns, normed if the input says so; zeros from k to pitch. Epilogues that only ever follow
 * a norm, or never do, leave the other code out: what a kernel does not hold need not be fetched. */
template <int EPILOGUE>
static __device__ void read_input(const sur_gpu_product &p, __nv_bfloat16 *hi, __nv_bfloat16 *lo, float *room)
{
    constexpr bool normed = EPILOGUE == SUR_GPU_QKV || EPILOGUE == SUR_GPU_SWIGLU || EPILOGUE == SUR_GPU_HEAD;
    constexpr bool plain = EPILOGUE == SUR_GPU_ADD || EPILOGUE == SUR_GPU_ROWS;
    const int column = p.pitch + 8, pad = p.pitch - p.k, run = p.in.norm_k;
    const bool fours = p.k % 4 == 0 && p.in.stride % 4 == 0;
    if (pad)
        for (int c = 0; c < p.n; c++)
            for (int i = threadIdx.x; i < pad; i += blockDim.x)
                hi[c * column + p.k + i] = lo[c * column + p.k + i] = __float2bfloat16_rn(0.0f);
    if (!normed && !plain && p.in.taps)
        read_taps(p, hi, lo);
    else if (!fours || (!plain && p.in.norm && (run % 4 != 0 || run > 4096)))
        read_any(p, hi, lo, room);
    else if (!normed && (plain || !p.in.norm))
        read_plain(p, hi, lo);
    else if (!plain && run <= 1024)
        read_normed<1, 4>(p, hi, lo, room);
    else if (!plain && run <= 2048)
        read_normed<2, 4>(p, hi, lo, room);
    else if (!plain && run <= 3072)
        read_normed<3, 2>(p, hi, lo, room);
    else if (!plain)
        read_normed<4, 2>(p, hi, lo, room);
}

/* ---- weights ---- */

/* Row r of the block's tile: the row of the product, or rows and more when there is none. */
template <int EPILOGUE> DEVICE int row_of(int tile, int r)
{
    int group = EPILOGUE == SUR_GPU_SWIGLU ? tile : tile * 2 + r / 8;
    return (group * gridDim.x + blockIdx.x) * 8 + r % 8;
}

/* A unit is a segment of a tile: four stages of 64 k, [16][64] bf16 each, 16-byte pieces swizzled by the row. A block's
 * units are numbered tile by tile; warp w takes units w, w + warps, ... A lane copies pieces of row lane / 8 and of
 * those 4, 8 and 12 further down; rows that do not exist are not copied: what lies there reaches only dropped sums. */
struct unit {
    int number, tile, segment, steps;
    uint32_t there;         /* bit i: row lane / 8 + 4 i exists */
    const char *low, *high; /* of rows lane / 8 and lane / 8 + 8 */

    template <int EPILOGUE> DEVICE_MEMBER void aim(const sur_gpu_product &p)
    {
        const int lane = threadIdx.x % 32, r = lane / 8;
        const int row0 = row_of<EPILOGUE>(tile, r), row1 = row_of<EPILOGUE>(tile, r + 8);
        const size_t k = (size_t)segment * SUR_GPU_SEGMENT + lane % 8 * 8;
        const int left = (p.pitch - segment * SUR_GPU_SEGMENT) / 64;
        steps = left < 4 ? left : 4;
        const bool two = EPILOGUE == SUR_GPU_SWIGLU;
        int limit = p.rows;
        low = (const char *)(at<const __nv_bfloat16>(p.w) + (size_t)row0 * p.pitch + k);
        high = (const char *)(at<const __nv_bfloat16>(two ? p.w_up : p.w) + (size_t)(two ? row0 : row1) * p.pitch + k);
        there = (row0 < limit) | (row0 + 4 < limit) << 1 | ((two ? row0 : row1) < limit) << 2 |
                ((two ? row0 : row1) + 4 < limit) << 3;
    }
    template <int EPILOGUE> DEVICE_MEMBER void next(const sur_gpu_product &p, int segments, int n_units)
    {
        const int warps = blockDim.x / 32;
        number += warps;
        for (segment += warps; segment >= segments; segment -= segments) tile++;
        if (number < n_units)
            aim<EPILOGUE>(p);
        else
            steps = 0;
    }
    /* stage: this lane's place in its low rows' part */
    DEVICE_MEMBER void copy(int step, uint32_t stage, size_t four_rows) const
    {
        if (step < steps) {
            const char *a = low + step * 128, *b = high + step * 128;
            if (there & 1) copy_async(stage, a);
            if (there & 2) copy_async((stage ^ 64) + 512, a + four_rows);
            if (there & 4) copy_async(stage + 1024, b);
            if (there & 8) copy_async((stage ^ 64) + 1536, b + four_rows);
        }
        copy_commit();
    }
};

/* One stage: four steps of the unit, low half first. weights: this lane's row and first piece; mask: 0 where x is a
 * column that does not exist. */
DEVICE void multiply(float (&sum)[4], uint32_t weights, uint32_t x, uint32_t mask)
{
    uint32_t a[4][4], b[4][4];
#pragma unroll
    for (uint32_t s = 0; s < 4; s++) {
        load_matrix4(a[s], weights ^ s << 5);
        load_matrix4(b[s], x + (s << 5 & mask));
    }
#pragma unroll
    for (uint32_t s = 0; s < 4; s++) {
        mma_bf16(sum, a[s], b[s][2], b[s][3]);
        mma_bf16(sum, a[s], b[s][0], b[s][1]);
    }
}

/* ---- the best four ---- */

/* Sorts like the logit, and for equal ones the lower id first; NaN is below all. */
DEVICE unsigned long long rank_of(float v, int id)
{
    uint32_t u = __float_as_uint(v);
    u = v != v ? 0 : u & 0x80000000u ? ~u : u | 0x80000000u;
    return (unsigned long long)u << 32 | (uint32_t)~id;
}

DEVICE void keep(unsigned long long (&top)[4], unsigned long long x)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (x > top[i]) {
            unsigned long long t = top[i];
            top[i] = x;
            x = t;
        }
}

/* The warp's best four of all lanes' sorted fours, in every lane. */
DEVICE void merge_lanes(unsigned long long (&top)[4])
{
    unsigned long long best[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        unsigned long long most = top[0];
        for (int step = 16; step; step >>= 1) {
            unsigned long long other = __shfl_xor_sync(~0u, most, step);
            most = other > most ? other : most;
        }
        if (top[0] == most) top[0] = top[1], top[1] = top[2], top[2] = top[3], top[3] = 0;
        best[i] = most;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) top[i] = best[i];
}

DEVICE unsigned long long nth(const unsigned long long (&top)[4], int i)
{
    return i == 0 ? top[0] : i == 1 ? top[1] : i == 2 ? top[2] : top[3];
}

/* Every block leaves its best four of each column; the last one to come merges them and writes the result. */
static __device__ void best_four(const sur_gpu_product &p, int tiles, unsigned long long *room)
{
    const sur_gpu_top_state &state = *at<const sur_gpu_top_state>(p.out.top);
    unsigned long long *candidates = at<unsigned long long>(state.candidates);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int c = 0; c < p.n; c++) {
        unsigned long long top[4] = {0};
        const float *y = at<const float>(p.out.y) + (size_t)(p.column0 + c) * p.out.stride;
        for (int e = threadIdx.x; e < tiles * 16; e += blockDim.x) {
            int row = row_of<SUR_GPU_HEAD>(e / 16, e % 16);
            if (row < p.rows) keep(top, rank_of(__ldcg(y + row), row));
        }
        merge_lanes(top);
        __syncthreads();
        if (lane < 4) room[warp * 4 + lane] = nth(top, lane);
        __syncthreads();
        if (warp == 0) {
            unsigned long long all[4] = {0};
            for (int i = lane; i < warps * 4; i += 32) keep(all, room[i]);
            merge_lanes(all);
            if (lane < 4) __stcg(candidates + (blockIdx.x * MAX_COLUMNS + c) * 4 + lane, nth(all, lane));
        }
    }
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(at<unsigned>(state.counter), 1) == gridDim.x - 1;
    __syncthreads();
    if (!last) return;
    __threadfence();
    if (threadIdx.x == 0) *at<unsigned>(state.counter) = 0;
    for (int c = warp; c < p.n; c += warps) {
        unsigned long long top[4] = {0};
        for (int i = lane; i < gridDim.x * 4; i += 32)
            keep(top, __ldcg(candidates + (i / 4 * MAX_COLUMNS + c) * 4 + i % 4));
        merge_lanes(top);
        if (lane < 4) {
            unsigned long long x = nth(top, lane);
            sur_gpu_top *result = at<sur_gpu_top>(state.result) + p.column0 + c;
            uint32_t u = (uint32_t)(x >> 32);
            result->id[lane] = (int)~(uint32_t)x;
            result->value[lane] = __uint_as_float(u & 0x80000000u ? u & 0x7fffffffu : ~u);
        }
    }
    __threadfence_system();
}

/* ---- the kernel ---- */

/* The sum of number i of a unit over its tile's segments, ascending. */
DEVICE float total(const float *sums, int segments, int unit_size, int i)
{
    float v = 0;
#pragma unroll 4
    for (int s = 0; s < segments; s++) v = __fadd_rn(v, sums[(size_t)s * unit_size + i]);
    return v;
}

/* What a thread's task needs of memory besides the sums. */
struct task_input {
    float y, b0, b1;
    float2 turn;
};

/* The row and column of task e of a round, and whether there is one. */
template <int EPILOGUE>
DEVICE bool task_at(const sur_gpu_product &p, int round, int tiles, int e, int &local, int &r, int &row, int &c)
{
    constexpr bool swiglu = EPILOGUE == SUR_GPU_SWIGLU, qkv = EPILOGUE == SUR_GPU_QKV;
    constexpr int outputs = swiglu || qkv ? 8 : 16; /* tasks a tile and column */
    int task = p.n == 1 ? e : e / p.n;
    c = p.n == 1 ? 0 : e - task * p.n;
    local = task / outputs;
    r = task % outputs * (qkv ? 2 : 1);
    int tile = round * p.tiles_a_round + local;
    row = row_of<EPILOGUE>(tile, r);
    return e < p.tiles_a_round * outputs * p.n && tile < tiles && row < p.rows;
}

template <int EPILOGUE> DEVICE task_input load_task(const sur_gpu_product &p, int row, int c)
{
    constexpr bool qkv = EPILOGUE == SUR_GPU_QKV;
    const float *bias = at<const float>(p.out.bias);
    task_input in = {0, 0, 0, {1, 0}};
    if (EPILOGUE == SUR_GPU_ADD) in.y = __ldcg(at<const float>(p.out.y) + (size_t)(p.column0 + c) * p.out.stride + row);
    if (bias) in.b0 = bias[row];
    if (bias && qkv) in.b1 = bias[row + 1];
    if (qkv) in.turn = turn_of(p.out, qkv_place(p.out, row), p.column0 + c);
    return in;
}

/* What a round's threads do with its sums; another warp begins each round. early: of the thread's first task of round
 * 0, loaded while the weights still came. */
template <int EPILOGUE>
static __device__ void finish_round(const sur_gpu_product &p, const float *sums, int round, int segments, int tiles,
                                    int64_t first, const task_input &early)
{
    constexpr bool swiglu = EPILOGUE == SUR_GPU_SWIGLU, qkv = EPILOGUE == SUR_GPU_QKV, two = swiglu || qkv;
    const int tid = round == 0 ? threadIdx.x : (threadIdx.x + round * 32) % blockDim.x, unit_size = 16 * p.n;
    for (int e = tid, local, r, row, c; e < p.tiles_a_round * 16 * p.n; e += blockDim.x) {
        if (!task_at<EPILOGUE>(p, round, tiles, e, local, r, row, c)) continue;
        task_input in = round == 0 && e == tid ? early : load_task<EPILOGUE>(p, row, c);
        int column = p.column0 + c;
        const float *unit = sums + (size_t)local * segments * unit_size;
        float v = total(unit, segments, unit_size, r * p.n + c), pair = in.y;
        if (two) pair = total(unit, segments, unit_size, (r + (swiglu ? 8 : 1)) * p.n + c);
        if (p.out.bias) v = __fadd_rn(v, in.b0);
        if (p.out.bias && qkv) pair = __fadd_rn(pair, in.b1);
        if (qkv)
            finish_pair(p.out, qkv_place(p.out, row), in.turn, row, column, v, pair, first);
        else
            finish<EPILOGUE>(p.out, row, column, v, pair, first);
    }
}
