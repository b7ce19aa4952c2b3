/* The narrow product: y = W x for 1 to 8 columns, bound by the bytes of W.
 *
 * A block takes whole tiles of rows; its warps share the tiles' segments of k. Each warp fetches its own stages of
 * weights ahead through shared memory, from before the kernel is allowed to read what the previous one wrote, so that
 * the memory never rests between two kernels. The input is read, normed and split by every block for itself: that is
 * cheaper than a kernel of its own. The segments' sums meet in shared memory, once a round of tiles. */
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

/* Normed runs, of 1024 elements 256 threads take at once, up to 8 times in flight: a run of 3072 three times, four of
 * 1280 two times each. Same order as rms_scale. */
static __device__ void read_normed(const sur_gpu_product &p, __nv_bfloat16 *hi, __nv_bfloat16 *lo, float *room)
{
    const sur_gpu_input &in = p.in;
    const float *weights = at<const float>(in.norm), *x = at<const float>(in.x) + (size_t)p.column0 * in.stride;
    const int runs_a_column = p.k / in.norm_k, n_runs = p.n * runs_a_column, column = p.pitch + 8;
    const int times_a_run = (in.norm_k + 1023) / 1024, runs_at_once = times_a_run > 8 ? 1 : 8 / times_a_run;
    const int mine = threadIdx.x * 4;
    for (int run0 = 0; run0 < n_runs; run0 += runs_at_once) {
        float4 v[8];
        if (threadIdx.x < 256) {
            float sum = 0;
            int run = run0, e = mine;
#pragma unroll
            for (int s = 0; s < 8; s++) {
                bool there = run < n_runs && run < run0 + runs_at_once && e < in.norm_k;
                const float *from = x + (size_t)(run / runs_a_column) * in.stride + run % runs_a_column * in.norm_k + e;
                v[s] = there ? *(const float4 *)from : make_float4(0, 0, 0, 0);
                e += 1024;
                if (e - mine >= times_a_run * 1024) e = mine, run++;
            }
            run = 0, e = 0;
#pragma unroll
            for (int s = 0; s < 8; s++) {
                sum = __fmaf_rn(v[s].x, v[s].x, sum), sum = __fmaf_rn(v[s].y, v[s].y, sum);
                sum = __fmaf_rn(v[s].z, v[s].z, sum), sum = __fmaf_rn(v[s].w, v[s].w, sum);
                if (++e == times_a_run) {
                    sum = fold_warp(sum);
                    if (threadIdx.x % 32 == 0) room[run * 8 + threadIdx.x / 32] = sum;
                    sum = 0, e = 0, run++;
                }
                if (run0 + run >= n_runs) break;
            }
        }
        __syncthreads();
        if (threadIdx.x < 256) {
            int run = run0, e = mine;
            float scale = rms_of(room, in.norm_k, in.eps);
#pragma unroll
            for (int s = 0; s < 8; s++) {
                int c = run / runs_a_column;
                if (run >= n_runs || run >= run0 + runs_at_once) break;
                if (e < in.norm_k)
                    put4(hi + c * column, lo + c * column, run % runs_a_column * in.norm_k + e, times(v[s], scale, *(const float4 *)(weights + e)));
                e += 1024;
                if (e - mine >= times_a_run * 1024) e = mine, run++, scale = rms_of(room + (run - run0) % 8 * 8, in.norm_k, in.eps);
            }
        }
        if (run0 + runs_at_once < n_runs) __syncthreads();
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
                float v = w ? __fmul_rn(__fmul_rn(x[i], scale), w[i]) : input_element(in, p.column0 + c, i);
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
            split(x[i], hi[c * column + i * 3 + t], lo[c * column + i * 3 + t]);
    }
}

static __device__ void read_plain(const sur_gpu_product &p, __nv_bfloat16 *hi, __nv_bfloat16 *lo)
{
    const int column = p.pitch + 8;
    for (int c = 0; c < p.n; c++) {
        const float *x = at<const float>(p.in.x) + (size_t)(p.column0 + c) * p.in.stride;
#pragma unroll 8
        for (int i = threadIdx.x * 4; i < p.k; i += blockDim.x * 4)
            put4(hi + c * column, lo + c * column, i, *(const float4 *)(x + i));
    }
}

/* The block's split input: columns, normed if the input says so; zeros from k to pitch. */
static __device__ void read_input(const sur_gpu_product &p, __nv_bfloat16 *hi, __nv_bfloat16 *lo, float *room)
{
    const int column = p.pitch + 8, pad = p.pitch - p.k;
    const bool fours = p.k % 4 == 0 && p.in.stride % 4 == 0;
    for (int i = threadIdx.x; i < pad * p.n; i += blockDim.x)
        hi[i / pad * column + p.k + i % pad] = lo[i / pad * column + p.k + i % pad] = __float2bfloat16_rn(0.0f);
    if (p.in.taps) read_taps(p, hi, lo);
    else if (p.in.norm && fours && p.in.norm_k % 4 == 0 && p.in.norm_k <= 8192) read_normed(p, hi, lo, room);
    else if (!p.in.norm && fours) read_plain(p, hi, lo);
    else read_any(p, hi, lo, room);
}

/* ---- fetching ahead ---- */

/* Walks a warp through its stages: rounds of tiles, units (a segment of a tile), steps of 64 k. */
struct cursor {
    int round, unit, step, steps, tile, segment;
    bool done;

    __device__ __forceinline__ void find(const sur_gpu_product &p, int segments, int tiles, int rounds)
    {
        int units = p.tiles_a_round * segments, warps = blockDim.x / 32;
        for (;;) {
            if (unit >= units) {
                unit = threadIdx.x / 32;
                if (++round >= rounds || unit >= units) {
                    done = true;
                    return;
                }
            }
            int local = unit / segments;
            segment = unit - local * segments;
            tile = round * p.tiles_a_round + local;
            if (tile < tiles) break;
            unit += warps;
        }
        step = 0;
        int left = (p.pitch - segment * SUR_GPU_SEGMENT) / 64;
        steps = left < SUR_GPU_SEGMENT / 64 ? left : SUR_GPU_SEGMENT / 64;
    }
    __device__ __forceinline__ void start(const sur_gpu_product &p, int segments, int tiles, int rounds)
    {
        round = 0;
        done = false;
        unit = threadIdx.x / 32;
        if (unit >= p.tiles_a_round * segments) done = true;
        else find(p, segments, tiles, rounds);
    }
    /* to the next stage; true when it begins a unit */
    __device__ __forceinline__ bool next(const sur_gpu_product &p, int segments, int tiles, int rounds)
    {
        if (++step < steps) return false;
        unit += blockDim.x / 32;
        find(p, segments, tiles, rounds);
        return true;
    }
};

/* Row r of the block's tile: the row of the product, or rows and more when there is none. */
template <int EPILOGUE> DEVICE int row_of(int tile, int r)
{
    int group = EPILOGUE == SUR_GPU_SWIGLU ? tile : tile * 2 + r / 8;
    return (group * gridDim.x + blockIdx.x) * 8 + r % 8;
}

/* A stage is [16][64] bf16, its 16-byte pieces swizzled by the row. Rows that do not exist are not fetched: what lies
 * there reaches only sums that are dropped. */
template <int EPILOGUE> DEVICE void fetch(const sur_gpu_product &p, const cursor &c, uint32_t stage, int lane)
{
    if (!c.done) {
        int piece = lane % 8, k = c.segment * SUR_GPU_SEGMENT + c.step * 64 + piece * 8;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int r = lane / 8 + 4 * i, row = row_of<EPILOGUE>(c.tile, r);
            sur_gpu_ptr w = EPILOGUE == SUR_GPU_SWIGLU && i >= 2 ? p.w_up : p.w;
            if (row < p.rows)
                copy_async(stage + r * 128 + ((piece ^ (r & 7)) << 4),
                           at<const __nv_bfloat16>(w) + (size_t)row * p.pitch + k);
        }
    }
    copy_commit();
}

/* One stage: four steps of the unit, low half first. */
DEVICE void multiply(float (&sum)[4], uint32_t stage, uint32_t input, uint32_t lo_offset, bool zero, int lane)
{
    const int m = lane / 8, r = lane % 8;
#pragma unroll
    for (int s = 0; s < 4; s++) {
        uint32_t a[4], b[4];
        load_matrix4(a, stage + ((m & 1) * 8 + r) * 128 + (((2 * s + (m >> 1)) ^ r) << 4));
        /* lanes 0 to 15 point at the high half, 16 to 31 at the low one */
        load_matrix4(b, zero ? input : input + s * 32 + (m & 1) * 16 + (m >> 1) * lo_offset);
        mma_bf16(sum, a, b[2], b[3]);
        mma_bf16(sum, a, b[0], b[1]);
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

/* Every block leaves its best four of each column; the last one to come merges them and writes the result. */
static __device__ void best_four(const sur_gpu_product &p, unsigned long long *room)
{
    const sur_gpu_top_state &state = *at<const sur_gpu_top_state>(p.out.top);
    unsigned long long *candidates = at<unsigned long long>(state.candidates);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int c = 0; c < p.n; c++) {
        unsigned long long top[4] = {0};
        const float *y = at<const float>(p.out.y) + (size_t)(p.column0 + c) * p.out.stride;
        for (int e = threadIdx.x;; e += blockDim.x) {
            int row = row_of<SUR_GPU_HEAD>(e / 16, e % 16);
            if (e % 16 == 0 && row >= p.rows) break;
            if (row < p.rows) keep(top, rank_of(__ldcg(y + row), row));
        }
        merge_lanes(top);
        __syncthreads();
        if (lane < 4) room[warp * 4 + lane] = lane == 0 ? top[0] : lane == 1 ? top[1] : lane == 2 ? top[2] : top[3];
        __syncthreads();
        if (warp == 0) {
            unsigned long long all[4] = {0};
            for (int i = lane; i < warps * 4; i += 32) keep(all, room[i]);
            merge_lanes(all);
            if (lane < 4)
                __stcg(candidates + (blockIdx.x * MAX_COLUMNS + c) * 4 + lane,
                       lane == 0 ? all[0] : lane == 1 ? all[1] : lane == 2 ? all[2] : all[3]);
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
            unsigned long long x = lane == 0 ? top[0] : lane == 1 ? top[1] : lane == 2 ? top[2] : top[3];
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

/* What a round's threads do with its sums; another warp begins each round. */
template <int EPILOGUE>
static __device__ void finish_round(const sur_gpu_product &p, const float *sums, int round, int segments, int tiles,
                                    int64_t first)
{
    const bool swiglu = EPILOGUE == SUR_GPU_SWIGLU, qkv = EPILOGUE == SUR_GPU_QKV, two = swiglu || qkv;
    const int outputs = two ? 8 : 16; /* tasks a tile and column */
    const float *bias = at<const float>(p.out.bias);
    int tid = (threadIdx.x + round * 32) % blockDim.x, unit_size = 16 * p.n;
    for (int e = tid; e < p.tiles_a_round * outputs * p.n; e += blockDim.x) {
        int c = e % p.n, task = e / p.n, local = task / outputs, r = task % outputs * (qkv ? 2 : 1);
        int tile = round * p.tiles_a_round + local, row = row_of<EPILOGUE>(tile, r), column = p.column0 + c;
        if (tile >= tiles || row >= p.rows) continue;
        const float *unit = sums + (size_t)local * segments * unit_size;
        float pair = EPILOGUE == SUR_GPU_ADD ? at<const float>(p.out.y)[(size_t)column * p.out.stride + row] : 0;
        float b0 = bias ? bias[row] : 0, b1 = bias && qkv ? bias[row + 1] : 0;
        float v = total(unit, segments, unit_size, r * p.n + c);
        if (two) pair = total(unit, segments, unit_size, (r + (swiglu ? 8 : 1)) * p.n + c);
        if (bias) v = __fadd_rn(v, b0);
        if (bias && qkv) pair = __fadd_rn(pair, b1);
        finish<EPILOGUE>(p.out, row, column, v, pair, first);
        if (qkv) finish<EPILOGUE>(p.out, row + 1, column, pair, v, first);
    }
}

template <int EPILOGUE> static __device__ void narrow(const sur_gpu_product &p)
{
    constexpr int STAGES = SUR_NARROW_STAGES, STAGE_BYTES = SUR_NARROW_STAGE_BYTES;
    extern __shared__ __align__(128) char shared[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int segments = sur_gpu_narrow_segments(&p), tiles = sur_gpu_narrow_tiles(&p, gridDim.x);
    const int rounds = (tiles + p.tiles_a_round - 1) / p.tiles_a_round;
    const int column = p.pitch + 8, units = p.tiles_a_round * segments, unit_size = 16 * p.n;
    __nv_bfloat16 *hi = (__nv_bfloat16 *)(shared + warps * STAGES * STAGE_BYTES), *lo = hi + (size_t)p.n * column;
    char *zeros = (char *)(lo + (size_t)p.n * column);
    float *room = (float *)(zeros + 16), *sums = room + 248; /* room: [8][8] for norms, [16][4] of 8 bytes for the best */

    cursor ahead, now;
    ahead.start(p, segments, tiles, rounds);
    now = ahead;
    uint32_t stages = shared_address(shared) + warp * STAGES * STAGE_BYTES;
    int put = 0, get = 0;
    for (; put < STAGES - 1; put++) {
        fetch<EPILOGUE>(p, ahead, stages + put * STAGE_BYTES, lane);
        if (!ahead.done) ahead.next(p, segments, tiles, rounds);
    }
    if (p.in.norm)
        for (int i = threadIdx.x * 32; i < p.in.norm_k; i += blockDim.x * 32) prefetch(at<const float>(p.in.norm) + i);
    wait_for_previous();
    let_next_start();
    int64_t first = p.out.position ? *at<const int64_t>(p.out.position) : 0;
    if (threadIdx.x < 4) ((uint32_t *)zeros)[threadIdx.x] = 0;
    read_input(p, hi, lo, room);
    __syncthreads();

    const bool zero = lane % 8 >= p.n;
    const uint32_t input = zero ? shared_address(zeros) : shared_address(hi + (size_t)(lane % 8) * column);
    const uint32_t lo_offset = (uint32_t)p.n * column * 2;
    for (int round = 0; round < rounds; round++) {
        float *part = sums + (size_t)(round & 1) * units * unit_size;
        while (!now.done && now.round == round) {
            float sum[4] = {0};
            int unit = now.unit;
            uint32_t x = zero ? input : input + now.segment * SUR_GPU_SEGMENT * 2;
            for (bool same = true; same;) {
                copy_wait<STAGES - 2>();
                __syncwarp();
                fetch<EPILOGUE>(p, ahead, stages + put * STAGE_BYTES, lane);
                if (!ahead.done) ahead.next(p, segments, tiles, rounds);
                put = put + 1 == STAGES ? 0 : put + 1;
                multiply(sum, stages + get * STAGE_BYTES, x, lo_offset, zero, lane);
                get = get + 1 == STAGES ? 0 : get + 1;
                if (!zero) x += 128;
                same = !now.next(p, segments, tiles, rounds);
            }
            float *to = part + (size_t)unit * unit_size + lane / 4 * p.n;
            for (int i = 0; i < 2; i++) {
                int c = lane % 4 * 2 + i;
                if (c < p.n) to[c] = sum[i], to[8 * p.n + c] = sum[2 + i];
            }
        }
        __syncthreads();
        finish_round<EPILOGUE>(p, part, round, segments, tiles, first);
    }
    if (EPILOGUE == SUR_GPU_HEAD) {
        __syncthreads();
        best_four(p, (unsigned long long *)(((uintptr_t)room + 7) & ~(uintptr_t)7));
    }
}

#define NARROW(name, epilogue)                                                                                         \
    extern "C" __global__ void __launch_bounds__(384, 2)                                                               \
        k_narrow_##name(const __grid_constant__ sur_gpu_product p)                                                     \
    {                                                                                                                  \
        narrow<epilogue>(p);                                                                                           \
    }
NARROW(plain, SUR_GPU_PLAIN)
NARROW(gelu, SUR_GPU_GELU)
NARROW(add, SUR_GPU_ADD)
NARROW(swiglu, SUR_GPU_SWIGLU)
NARROW(qkv, SUR_GPU_QKV)
NARROW(rows, SUR_GPU_ROWS)
NARROW(head, SUR_GPU_HEAD)
