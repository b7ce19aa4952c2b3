/* Starts and ends of passes, random rings, and the bandwidth probe. */
#include "common.cuh"

/* [half][cos, sin] of one position. */
static __device__ void rotate_column(float *to, const float *inv, int half, int64_t position)
{
    for (int j = threadIdx.x; j < half; j += blockDim.x) {
        double angle = (double)position * (double)inv[j], s, c;
        sincos(angle, &s, &c);
        to[2 * j] = (float)c;
        to[2 * j + 1] = (float)s;
    }
}

/* One thread block per column. */
extern "C" __global__ void __launch_bounds__(256) k_embed(const __grid_constant__ sur_gpu_embed p)
{
    wait_for_previous();
    let_next_start();
    const volatile sur_gpu_request *request = at<const volatile sur_gpu_request>(p.request);
    const int c = blockIdx.x;
    __shared__ int64_t first_position;
    __shared__ int column_token;
    if (threadIdx.x == 0) { /* a read of host memory takes half a microsecond, and reads queue up */
        first_position = request->first;
        column_token = request->tokens[c];
        if (c == 0 && column_token < 0 && p.before) column_token = *at<const volatile int32_t>(p.before);
        if (c == 0) *at<int64_t>(p.position) = first_position;
    }
    __syncthreads();
    const int64_t first = first_position;
    const int token = column_token;
    const float *row = at<const float>(p.rows) + (size_t)((first + c) % SUR_GPU_ROW_RING) * p.dim;
    const __nv_bfloat16 *e = at<const __nv_bfloat16>(p.embedding);
    for (int i0 = 0; i0 < p.dim; i0 += blockDim.x) {
        const int i = i0 + threadIdx.x;
        float h = 0;
        if (i < p.dim) {
            h = __fadd_rn(row[i], __bfloat162float(e[sur_gpu_weight_at(token, i, p.pitch)]));
            at<float>(p.h)[(size_t)c * p.dim + i] = h;
            if (p.hi) put_split(p.hi, 0, p.pitch, c, i, __fmul_rn(h, at<const float>(p.norm)[i]));
        }
        if (p.squares) {
            const float sum = fold_squares(h);
            if (i < p.dim && i % 8 == 0) at<float>(p.squares)[(size_t)c * ((p.dim + 7) / 8) + i / 8] = sum;
        }
    }
    rotate_column(at<float>(p.rotation) + (size_t)c * p.half * 2, at<const float>(p.inv), p.half, first + c);
}

/* One thread block per column. */
extern "C" __global__ void __launch_bounds__(256) k_begin(const __grid_constant__ sur_gpu_begin p)
{
    wait_for_previous();
    let_next_start();
    const int c = blockIdx.x;
    const sur_gpu_request *request = at<const sur_gpu_request>(p.request);
    const int64_t first = request->first;
    if (c == 0 && threadIdx.x == 0) {
        *at<int64_t>(p.position) = first;
        *at<int64_t>(p.row_position) = request->first_row;
    }
    rotate_column(at<float>(p.rotation) + (size_t)c * p.half * 2, at<const float>(p.inv), p.half, first + c);
}

/* One thread block, so that all is read before anything is written. */
extern "C" __global__ void __launch_bounds__(1024) k_carry(const __grid_constant__ sur_gpu_carry p)
{
    wait_for_previous();
    let_next_start();
    float *mel = at<float>(p.mel), *conv0 = at<float>(p.conv0);
    for (int base = 0; base < 2 * p.n_mels; base += blockDim.x) {
        int i = base + threadIdx.x;
        float v = i < 2 * p.n_mels ? __ldcg(mel + (size_t)p.n_frames * p.n_mels + i) : 0;
        __syncthreads();
        if (i < 2 * p.n_mels) mel[i] = v;
    }
    for (int i = threadIdx.x; i < p.e; i += blockDim.x) conv0[i] = __ldcg(conv0 + (size_t)p.n_frames * p.e + i);
}

/* The same numbers as the CPU backend's (cpu/tower.c): a linear congruential generator seeded by the position, one step
 * per element of a layer's keys and values. Grid (positions). */
extern "C" __global__ void __launch_bounds__(256) k_randomize(const __grid_constant__ sur_gpu_randomize p)
{
    const int64_t position = p.from + blockIdx.x;
    const int rows = p.ring.n_kv_heads * p.ring.head_dim;
    for (int i = threadIdx.x; i < 2 * rows; i += blockDim.x) {
        uint32_t steps = (uint32_t)p.layer * 2 * rows + i + 1, x = (uint32_t)position * 2654435761u;
        for (uint32_t a = 1664525u, c = 1013904223u; steps; steps >>= 1) { /* a, c: 1, 2, 4, ... steps at once */
            if (steps & 1) x = a * x + c;
            c *= a + 1;
            a *= a;
        }
        int r = i % rows;
        ring_put(p.ring, i >= rows, r / p.ring.head_dim, r % p.ring.head_dim, position, (float)(int32_t)x * 0x1p-31f);
    }
}

/* Four 16-byte loads in flight per thread. The store, which never happens, keeps the compiler from removing them. */
extern "C" __global__ void __launch_bounds__(512) k_probe(const __grid_constant__ sur_gpu_probe p)
{
    const uint4 *data = at<const uint4>(p.data);
    size_t n = p.n_bytes / 16, step = (size_t)gridDim.x * blockDim.x, i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    uint4 x = {0, 0, 0, 0};
    for (; i + 3 * step < n; i += 4 * step) {
        uint4 v[4];
#pragma unroll
        for (int j = 0; j < 4; j++) v[j] = __ldcs(data + i + j * step);
#pragma unroll
        for (int j = 0; j < 4; j++) x.x ^= v[j].x, x.y ^= v[j].y, x.z ^= v[j].z, x.w ^= v[j].w;
    }
    for (; i < n; i += step) x.x ^= data[i].x;
    if ((x.x ^ x.y ^ x.z ^ x.w) == 0x12345678u) *at<uint32_t>(p.sink) = x.x;
}
