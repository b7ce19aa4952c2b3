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
    const int runs_a_column = RUNS == 1 ? 1 : __float2int_rn(__fdividef((float)p.k, (float)in.norm_k));
    const float a_run = RUNS == 1 ? 1 : __fdividef((float)in.norm_k, (float)p.k);
    const int n_runs = RUNS == 1 ? 1 : p.n * runs_a_column, column = p.pitch + 8, e = threadIdx.x * 4;
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
                const int run = run0 + r, c = floor_times(run, a_run);
                const float *from = x + c * in.stride + (run - c * runs_a_column) * in.norm_k + e;
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
                const int run = run0 + r, c = floor_times(run, a_run);
                const int to = c * column + (run - c * runs_a_column) * in.norm_k + e;
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

/* Columns that are split already: [n][pitch] without gaps. */
DEVICE void read_halves(const sur_gpu_product &p, __nv_bfloat16 *hi, __nv_bfloat16 *lo)
{
    const int pieces = p.n * p.pitch / 8;
    const uint4 *from_hi = at<const uint4>(p.hi) + (size_t)p.column0 * p.pitch / 8;
    const uint4 *from_lo = at<const uint4>(p.lo) + (size_t)p.column0 * p.pitch / 8;
    auto copy = [&](int i, uint4 h, uint4 l) {
        const int column = floor_times(i, p.narrow.a_piece); /* a gap of one piece follows each */
        ((uint4 *)hi)[i + column] = h, ((uint4 *)lo)[i + column] = l;
    };
    for (int i = threadIdx.x; i < pieces; i += 4 * blockDim.x) { /* eight loads in flight */
        uint4 h[4], l[4];
#pragma unroll
        for (int s = 0; s < 4; s++)
            if (i + s * blockDim.x < pieces)
                h[s] = __ldcg(from_hi + i + s * blockDim.x), l[s] = __ldcg(from_lo + i + s * blockDim.x);
#pragma unroll
        for (int s = 0; s < 4; s++)
            if (i + s * blockDim.x < pieces) copy(i + s * blockDim.x, h[s], l[s]);
    }
}

/* The block's split input: columns, normed if the input says so; zeros from k to pitch. Each epilogue has only the ways
 * that it is used with. */
template <int EPILOGUE>
static __device__ void read_input(const sur_gpu_product &p, __nv_bfloat16 *hi, __nv_bfloat16 *lo, float *room)
{
    constexpr bool normed = EPILOGUE == SUR_GPU_QKV || EPILOGUE == SUR_GPU_SWIGLU || EPILOGUE == SUR_GPU_HEAD;
    if (EPILOGUE == SUR_GPU_ADD || EPILOGUE == SUR_GPU_ROWS) {
        read_halves(p, hi, lo);
        return;
    }
    const int column = p.pitch + 8, pad = p.pitch - p.k, run = p.in.norm_k;
    if (pad)
        for (int c = 0; c < p.n; c++)
            for (int i = threadIdx.x; i < pad; i += blockDim.x)
                hi[c * column + p.k + i] = lo[c * column + p.k + i] = __float2bfloat16_rn(0.0f);
    if (!normed && p.in.taps)
        read_taps(p, hi, lo);
    else if (!p.in.norm || run % 4 != 0 || p.in.stride % 4 != 0 || run > 4096)
        read_any(p, hi, lo, room);
    else if (run == p.k && p.n == 1)
        read_normed<4, 1>(p, hi, lo, room);
    else if (run <= 2048)
        read_normed<2, 4>(p, hi, lo, room);
    else
        read_normed<4, 2>(p, hi, lo, room);
}

/* ---- weights ---- */

/* A tile is 16 rows in two groups of 8. Blocks are dealt groups like cards: block b's tile has groups `tile * 2 * grid
 * + b` and `... + grid`; of SWIGLU group `tile * grid + b` of both matrices. A block may lack its last groups. */
template <int EPILOGUE> DEVICE int row_of(int tile, int r)
{
    int group = EPILOGUE == SUR_GPU_SWIGLU ? tile : tile * 2 + r / 8;
    return (group * gridDim.x + blockIdx.x) * 8 + r % 8;
}

/* A unit is a segment of a tile: four stages of 64 k, [16][64] bf16 each, 16-byte pieces swizzled by the row. A block's
 * units are numbered tile by tile; warp w takes units w, w + warps, ... A lane copies pieces of row lane / 8 and of
 * those 4, 8 and 12 further down. Rows and groups that do not exist reach only sums that are dropped. */
struct unit {
    int number, segment, low_steps, high_steps; /* steps: 0 when the group does not exist */
    const char *low, *high;                     /* this lane's pieces of the first stage: rows lane / 8, and 8 more */

    /* first: this lane's piece of unit 0; up: bytes from a group to the tile's other. */
    template <int EPILOGUE> DEVICE_MEMBER void aim(const sur_gpu_product &p, const char *first, int64_t up, int unit)
    {
        number = unit;
        const int tile = floor_times(unit, p.narrow.a_segment), row = row_of<EPILOGUE>(tile, 0);
        segment = unit - tile * p.narrow.segments;
        low = first + (size_t)tile * p.narrow.tile_bytes + segment * (SUR_GPU_SEGMENT * 2);
        high = low + up;
        const int left = p.pitch / 64 - segment * 4, steps = unit < p.narrow.n_units ? left < 4 ? left : 4 : 0;
        low_steps = row < p.rows ? steps : 0;
        high_steps = EPILOGUE == SUR_GPU_SWIGLU || row + (int)gridDim.x * 8 < p.rows ? low_steps : 0;
    }
    /* to: this lane's place in its low rows' part of the stage; to_4: the same 4 rows further down */
    DEVICE_MEMBER void copy(int step, uint32_t to, uint32_t to_4, int64_t four_rows) const
    {
        if (step < low_steps) {
            copy_async(to, low + step * 128);
            copy_async(to_4, low + four_rows + step * 128);
        }
        if (step < high_steps) {
            copy_async(to + 1024, high + step * 128);
            copy_async(to_4 + 1024, high + four_rows + step * 128);
        }
        copy_commit();
    }
};

/* One stage: four steps of the unit, low half first. weights [s]: this lane's row and its piece of step s; x: of its
 * column. */
DEVICE void multiply(float (&sum)[4], const uint32_t (&weights)[4], uint32_t offset, uint32_t x)
{
    uint32_t a[4][4], b[4][4];
#pragma unroll
    for (uint32_t s = 0; s < 4; s++) {
        load_matrix4(a[s], weights[s] + offset);
        load_matrix4(b[s], x + s * 32);
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
static __device__ void best_four(const sur_gpu_product &p, unsigned long long *room)
{
    const sur_gpu_top_state &state = *at<const sur_gpu_top_state>(p.out.top);
    unsigned long long *candidates = at<unsigned long long>(state.candidates);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int c = 0; c < p.n; c++) {
        unsigned long long top[4] = {0};
        const float *y = at<const float>(p.out.y) + (size_t)(p.column0 + c) * p.out.stride;
        for (int e = threadIdx.x; e < p.narrow.tiles * 16; e += blockDim.x) {
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
DEVICE bool task_at(const sur_gpu_product &p, int round, int e, int &local, int &r, int &row, int &c)
{
    constexpr bool swiglu = EPILOGUE == SUR_GPU_SWIGLU, qkv = EPILOGUE == SUR_GPU_QKV;
    constexpr int outputs = swiglu || qkv ? 8 : 16; /* tasks a tile and column */
    const int task = floor_times(e, p.narrow.a_column);
    c = e - task * p.n;
    local = task / outputs;
    r = task % outputs * (qkv ? 2 : 1);
    const int tile = round * p.narrow.tiles_a_round + local;
    row = row_of<EPILOGUE>(tile, r);
    return local < p.narrow.tiles_a_round && tile < p.narrow.tiles && row < p.rows;
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

/* Of the first task of a round that thread `tid` of it has. */
template <int EPILOGUE> DEVICE task_input load_early(const sur_gpu_product &p, int round, int tid)
{
    int local, r, row, c;
    if (task_at<EPILOGUE>(p, round, tid, local, r, row, c)) return load_task<EPILOGUE>(p, row, c);
    return {0, 0, 0, {1, 0}};
}

/* What a round's threads do with its sums; tid: the thread's place among them. early: load_early's, from when the
 * weights still came. */
template <int EPILOGUE>
static __device__ void finish_round(const sur_gpu_product &p, const float *sums, int round, int tid, int64_t first,
                                    const task_input &early)
{
    constexpr bool swiglu = EPILOGUE == SUR_GPU_SWIGLU, qkv = EPILOGUE == SUR_GPU_QKV, two = swiglu || qkv;
    const int unit_size = 16 * p.n, segments = p.narrow.segments;
    for (int e = tid, local, r, row, c; e < p.narrow.tiles_a_round * 16 * p.n; e += blockDim.x) {
        if (!task_at<EPILOGUE>(p, round, e, local, r, row, c)) continue;
        task_input in = e == tid ? early : load_task<EPILOGUE>(p, row, c);
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
