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

/* Scales of up to 32 runs (column by column) into scales; order as rms_scale. room: [8][8]. */
static __device__ void rms_scales(const sur_gpu_input &in, int column0, int n_runs, int runs_a_column, float *scales,
                                  float *room)
{
    const float *x = at<const float>(in.x);
    for (int run = 0; run < n_runs; run += 8) {
        if (threadIdx.x < 256) {
            float sum[8] = {0};
            for (int i = threadIdx.x; i < in.norm_k; i += 256)
#pragma unroll
                for (int j = 0; j < 8; j++)
                    if (run + j < n_runs) {
                        int c = (run + j) / runs_a_column, part = (run + j) % runs_a_column;
                        float v = x[(size_t)(column0 + c) * in.stride + (size_t)part * in.norm_k + i];
                        sum[j] = __fmaf_rn(v, v, sum[j]);
                    }
#pragma unroll
            for (int j = 0; j < 8; j++) {
                if (run + j >= n_runs) break;
                for (int step = 16; step; step >>= 1) sum[j] = __fadd_rn(sum[j], __shfl_xor_sync(~0u, sum[j], step));
                if (threadIdx.x % 32 == 0) room[j * 8 + threadIdx.x / 32] = sum[j];
            }
        }
        __syncthreads();
        if (threadIdx.x < 8 && run + threadIdx.x < n_runs) {
            const float *r = room + threadIdx.x * 8;
            float total = r[0];
            for (int i = 1; i < 8; i++) total = __fadd_rn(total, r[i]);
            scales[run + threadIdx.x] = __frsqrt_rn(__fadd_rn(__fdiv_rn(total, (float)in.norm_k), in.eps));
        }
        __syncthreads();
    }
}

DEVICE uint32_t pack(__nv_bfloat16 a, __nv_bfloat16 b)
{
    return (uint32_t)__bfloat16_as_ushort(a) | (uint32_t)__bfloat16_as_ushort(b) << 16;
}

/* hi, lo [n][pitch + 8]: the columns, normed, split; zeros from k to pitch. */
static __device__ void read_input(const sur_gpu_product &p, __nv_bfloat16 *hi, __nv_bfloat16 *lo, float *scales)
{
    const sur_gpu_input &in = p.in;
    const float *w = at<const float>(in.norm);
    int column = p.pitch + 8, runs = in.norm ? p.k / in.norm_k : 1;
    bool plain = !in.taps && p.k % 4 == 0 && in.stride % 4 == 0 && in.norm_k % 4 == 0;
    for (int c = 0; c < p.n; c++) {
        if (plain) {
            const float *x = at<const float>(in.x) + (size_t)(p.column0 + c) * in.stride;
#pragma unroll 4
            for (int i = threadIdx.x * 4; i < p.pitch; i += blockDim.x * 4) {
                float4 v = i < p.k ? *(const float4 *)(x + i) : make_float4(0, 0, 0, 0);
                if (w && i < p.k) {
                    int part = runs == 1 ? 0 : i / in.norm_k;
                    float s = scales[c * runs + part];
                    float4 m = *(const float4 *)(w + i - part * in.norm_k);
                    v = make_float4(__fmul_rn(__fmul_rn(v.x, s), m.x), __fmul_rn(__fmul_rn(v.y, s), m.y),
                                    __fmul_rn(__fmul_rn(v.z, s), m.z), __fmul_rn(__fmul_rn(v.w, s), m.w));
                }
                __nv_bfloat16 h[4], l[4];
                split(v.x, h[0], l[0]), split(v.y, h[1], l[1]), split(v.z, h[2], l[2]), split(v.w, h[3], l[3]);
                *(uint2 *)(hi + c * column + i) = make_uint2(pack(h[0], h[1]), pack(h[2], h[3]));
                *(uint2 *)(lo + c * column + i) = make_uint2(pack(l[0], l[1]), pack(l[2], l[3]));
            }
        } else {
            for (int i = threadIdx.x; i < p.pitch; i += blockDim.x) {
                float v = i < p.k ? input_element(in, p.column0 + c, i) : 0;
                if (w && i < p.k)
                    v = __fmul_rn(__fmul_rn(v, scales[c * runs + i / in.norm_k]), w[i % in.norm_k]);
                split(v, hi[c * column + i], lo[c * column + i]);
            }
        }
    }
}

/* ---- fetching ahead ---- */

/* Walks a warp through its stages: rounds of tiles, units (a segment of a tile), steps of 64 k. */
template <int ROWS> struct cursor {
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
            tile = (round * p.tiles_a_round + local) * gridDim.x + blockIdx.x;
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

/* Row r of a tile, as the kernel's row of weights. */
template <int EPILOGUE, int ROWS> DEVICE const __nv_bfloat16 *weight_row(const sur_gpu_product &p, int tile, int r)
{
    const bool pair = EPILOGUE == SUR_GPU_SWIGLU;
    int row = pair ? tile * 8 + r % 8 : tile * ROWS + r;
    row = row < p.rows ? row : p.rows - 1;
    return at<const __nv_bfloat16>(pair && r >= 8 ? p.w_up : p.w) + (size_t)row * p.pitch;
}

/* A stage is [ROWS][64] bf16, its 16-byte pieces swizzled by the row. */
template <int EPILOGUE, int ROWS>
DEVICE void fetch(const sur_gpu_product &p, const cursor<ROWS> &c, uint32_t stage, int lane)
{
    if (!c.done) {
        int piece = lane % 8, k = c.segment * SUR_GPU_SEGMENT + c.step * 64 + piece * 8;
#pragma unroll
        for (int i = 0; i < ROWS / 4; i++) {
            int r = lane / 8 + 4 * i;
            copy_async(stage + r * 128 + ((piece ^ (r & 7)) << 4), weight_row<EPILOGUE, ROWS>(p, c.tile, r) + k);
        }
    }
    copy_commit();
}

/* One stage: four steps of the unit, low half first. */
template <int ROWS>
DEVICE void multiply(float (&sum)[4], uint32_t stage, uint32_t input, uint32_t lo_offset, bool zero, int lane)
{
    uint32_t a[4], b[4];
#pragma unroll
    for (int s = 0; s < 4; s++) {
        int m = lane / 8, r = lane % 8;
        if (ROWS == 16) {
            int row = (m & 1) * 8 + r, piece = 2 * s + (m >> 1);
            load_matrix4(a, stage + row * 128 + ((piece ^ r) << 4));
        } else if (s % 2 == 0) {
            load_matrix4(a, stage + r * 128 + (((2 * s + m) ^ r) << 4)); /* two steps' worth */
        }
        /* lanes 0 to 15 point at the high half, 16 to 31 at the low one */
        load_matrix4(b, zero ? input : input + s * 32 + (m & 1) * 16 + (m >> 1) * lo_offset);
        uint32_t half[4] = {a[s % 2 * 2], 0, a[s % 2 * 2 + 1], 0};
        mma_bf16(sum, ROWS == 16 ? a : half, b[2], b[3]);
        mma_bf16(sum, ROWS == 16 ? a : half, b[0], b[1]);
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
template <int ROWS> static __device__ void best_four(const sur_gpu_product &p, int tiles, unsigned long long *room)
{
    const sur_gpu_top_state &state = *at<const sur_gpu_top_state>(p.out.top);
    unsigned long long *candidates = at<unsigned long long>(state.candidates);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int c = 0; c < p.n; c++) {
        unsigned long long top[4] = {0};
        const float *y = at<const float>(p.out.y) + (size_t)(p.column0 + c) * p.out.stride;
        for (int e = threadIdx.x;; e += blockDim.x) {
            int tile = e / ROWS * gridDim.x + blockIdx.x, row = tile * ROWS + e % ROWS;
            if (tile >= tiles) break;
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

/* The sum of row r of unit `unit` over its segments, ascending, plus the bias. */
DEVICE float total(const float *sums, int first_unit, int segments, int unit_size, int i)
{
    float v = 0;
    for (int s = 0; s < segments; s++) v = __fadd_rn(v, sums[(size_t)(first_unit + s) * unit_size + i]);
    return v;
}

/* What a round's threads do with its sums; `tid` is shifted so that another warp does it each round. */
template <int EPILOGUE, int ROWS>
static __device__ void finish_round(const sur_gpu_product &p, const float *sums, int round, int segments, int tiles,
                                    int64_t first)
{
    const bool swiglu = EPILOGUE == SUR_GPU_SWIGLU, qkv = EPILOGUE == SUR_GPU_QKV;
    const int outputs = swiglu ? 8 : qkv ? ROWS / 2 : ROWS; /* tasks a tile and column */
    const float *bias = at<const float>(p.out.bias);
    int tid = (threadIdx.x + round * 32) % blockDim.x, unit_size = ROWS * p.n;
    for (int e = tid; e < p.tiles_a_round * outputs * p.n; e += blockDim.x) {
        int c = e % p.n, task = e / p.n, local = task / outputs, r = task % outputs * (qkv ? 2 : 1);
        int tile = (round * p.tiles_a_round + local) * gridDim.x + blockIdx.x;
        int row = tile * (swiglu ? 8 : ROWS) + r;
        if (tile >= tiles || row >= p.rows) continue;
        float v = total(sums, local * segments, segments, unit_size, r * p.n + c), pair = 0;
        if (swiglu) pair = total(sums, local * segments, segments, unit_size, (r + 8) * p.n + c);
        if (qkv) pair = total(sums, local * segments, segments, unit_size, (r + 1) * p.n + c);
        if (bias) v = __fadd_rn(v, bias[row]);
        if (bias && qkv) pair = __fadd_rn(pair, bias[row + 1]);
        finish<EPILOGUE>(p.out, row, p.column0 + c, v, pair, first);
        if (qkv) finish<EPILOGUE>(p.out, row + 1, p.column0 + c, pair, v, first);
    }
}

template <int EPILOGUE, int ROWS> static __device__ void narrow(const sur_gpu_product &p)
{
    constexpr int STAGES = ROWS == 16 ? SUR_NARROW_STAGES_16 : SUR_NARROW_STAGES_8, STAGE_BYTES = ROWS * 128;
    extern __shared__ __align__(128) char shared[];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const int segments = sur_gpu_narrow_segments(&p), tiles = sur_gpu_narrow_tiles(&p, ROWS);
    const int mine = (tiles + gridDim.x - 1) / gridDim.x, rounds = (mine + p.tiles_a_round - 1) / p.tiles_a_round;
    const int column = p.pitch + 8, units = p.tiles_a_round * segments, unit_size = ROWS * p.n;
    __nv_bfloat16 *hi = (__nv_bfloat16 *)(shared + warps * STAGES * STAGE_BYTES), *lo = hi + (size_t)p.n * column;
    char *zeros = (char *)(lo + (size_t)p.n * column);
    float *scales = (float *)(zeros + 16), *room = scales + 32, *sums = scales + 380;

    cursor<ROWS> ahead, now;
    ahead.start(p, segments, tiles, rounds);
    now = ahead;
    uint32_t stages = shared_address(shared) + warp * STAGES * STAGE_BYTES;
    int put = 0, get = 0;
    for (; put < STAGES - 1; put++) {
        fetch<EPILOGUE, ROWS>(p, ahead, stages + put * STAGE_BYTES, lane);
        if (!ahead.done) ahead.next(p, segments, tiles, rounds);
    }
    wait_for_previous();
    let_next_start();
    int64_t first = p.out.position ? *at<const int64_t>(p.out.position) : 0;
    if (p.in.norm) rms_scales(p.in, p.column0, p.n * (p.k / p.in.norm_k), p.k / p.in.norm_k, scales, room);
    if (threadIdx.x < 4) ((uint32_t *)zeros)[threadIdx.x] = 0;
    read_input(p, hi, lo, scales);
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
                fetch<EPILOGUE, ROWS>(p, ahead, stages + put * STAGE_BYTES, lane);
                if (!ahead.done) ahead.next(p, segments, tiles, rounds);
                put = put + 1 == STAGES ? 0 : put + 1;
                multiply<ROWS>(sum, stages + get * STAGE_BYTES, x, lo_offset, zero, lane);
                get = get + 1 == STAGES ? 0 : get + 1;
                if (!zero) x += 128;
                same = !now.next(p, segments, tiles, rounds);
            }
            float *to = part + (size_t)unit * unit_size + lane / 4 * p.n;
            for (int i = 0; i < 2; i++) {
                int c = lane % 4 * 2 + i;
                if (c < p.n) to[c] = sum[i];
                if (c < p.n && ROWS == 16) to[8 * p.n + c] = sum[2 + i];
            }
        }
        __syncthreads();
        finish_round<EPILOGUE, ROWS>(p, part, round, segments, tiles, first);
    }
    if (EPILOGUE == SUR_GPU_HEAD) {
        __syncthreads();
        best_four<ROWS>(p, tiles, (unsigned long long *)(((uintptr_t)(room + 64) + 7) & ~(uintptr_t)7));
    }
}

#define NARROW(name, epilogue, rows)                                                                                   \
    extern "C" __global__ void __launch_bounds__(512, 1)                                                               \
        k_narrow_##name##_##rows(const __grid_constant__ sur_gpu_product p)                                            \
    {                                                                                                                  \
        narrow<epilogue, rows>(p);                                                                                     \
    }
NARROW(plain, SUR_GPU_PLAIN, 8)
NARROW(plain, SUR_GPU_PLAIN, 16)
NARROW(gelu, SUR_GPU_GELU, 8)
NARROW(gelu, SUR_GPU_GELU, 16)
NARROW(add, SUR_GPU_ADD, 8)
NARROW(add, SUR_GPU_ADD, 16)
NARROW(swiglu, SUR_GPU_SWIGLU, 16)
NARROW(qkv, SUR_GPU_QKV, 8)
NARROW(qkv, SUR_GPU_QKV, 16)
NARROW(rows, SUR_GPU_ROWS, 8)
NARROW(rows, SUR_GPU_ROWS, 16)
NARROW(head, SUR_GPU_HEAD, 16)
