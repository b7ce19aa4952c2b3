/* Kernels around the products of NVIDIA's libraries (--gemm lt|blas, --window-attention gemm): outputs from their sums,
 * matrices from a ring, weights from scores. Only for comparison: the libraries promise no bits. */
#include "attend.cuh"

/* One row per thread, for QKV one pair of rows; grid (rows / 256 or pairs / 256, n). */
template <int EPILOGUE> DEVICE void finish_sums(const sur_gpu_finish &p)
{
    constexpr bool qkv = EPILOGUE == SUR_GPU_QKV;
    wait_for_previous();
    let_next_start();
    const int row = (blockIdx.x * 256 + threadIdx.x) * (qkv ? 2 : 1), c = blockIdx.y;
    if (row >= p.rows) return;
    const float *bias = at<const float>(p.out.bias), scale = p.scale ? at<const float>(p.scale)[c] : 1;
    auto sum = [&](sur_gpu_ptr sums, int r) {
        const float *hi = at<const float>(sums) + (size_t)c * p.rows + r;
        return __fmul_rn(__fadd_rn(hi[0], hi[(size_t)p.n * p.rows]), scale);
    };
    float v = sum(p.sums, row), pair = 0;
    if (EPILOGUE == SUR_GPU_SWIGLU) pair = sum(p.sums_up, row);
    if (EPILOGUE == SUR_GPU_ADD) pair = at<const float>(p.out.y)[(size_t)c * p.out.stride + row];
    if (qkv) pair = sum(p.sums, row + 1);
    if (bias) v = __fadd_rn(v, bias[row]);
    if (bias && qkv) pair = __fadd_rn(pair, bias[row + 1]);
    const int64_t first = qkv || EPILOGUE == SUR_GPU_ROWS ? *at<const int64_t>(p.out.position) : 0;
    if (qkv) {
        qkv_place to(p.out, row);
        finish_pair(p.out, to, turn_of(p.out, to, c), row, c, v, pair, first);
    } else {
        finish<EPILOGUE>(p.out, row, c, v, pair, first);
    }
}

#define FINISH(name, EPILOGUE)                                                                                         \
    extern "C" __global__ void __launch_bounds__(256) k_finish_##name(const __grid_constant__ sur_gpu_finish p)        \
    {                                                                                                                  \
        finish_sums<EPILOGUE>(p);                                                                                      \
    }
FINISH(gelu, SUR_GPU_GELU)
FINISH(add, SUR_GPU_ADD)
FINISH(swiglu, SUR_GPU_SWIGLU)
FINISH(qkv, SUR_GPU_QKV)
FINISH(rows, SUR_GPU_ROWS)

/* One thread block per 128-key block of a K/V head: grid (n_blocks, n_kv_heads). */
extern "C" __global__ void __launch_bounds__(256) k_unroll(const __grid_constant__ sur_gpu_unroll p)
{
    wait_for_previous();
    let_next_start();
    const sur_gpu_ring &r = p.ring;
    const int d = r.head_dim, slots = r.n_blocks * KEYS, head = blockIdx.y;
    const size_t block = ((size_t)head * r.n_blocks + blockIdx.x) * KEYS, from = block * r.dp;
    for (int i = threadIdx.x; i < KEYS * d; i += 256) {
        at<float>(p.keys)[block * d + i] = ring_get(r, r.k, from + sur_gpu_key_at(i / d, i % d, r.dp));
        const int e = i / KEYS, slot = i % KEYS;
        const size_t to = ((size_t)head * d + e) * slots + blockIdx.x * KEYS + slot;
        at<float>(p.values)[to] = ring_get(r, r.v, from + sur_gpu_value_at(slot, e));
    }
}

/* One row per warp; grid (n / 8, n_heads). A slot holds the latest position that maps to it. */
extern "C" __global__ void __launch_bounds__(256) k_softmax(const __grid_constant__ sur_gpu_attend p)
{
    wait_for_previous();
    let_next_start();
    const int c = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32, slots = p.ring.n_blocks * KEYS;
    if (c >= p.n) return;
    const int64_t first = *at<const int64_t>(p.position), last = first + p.n - 1;
    const int last_slot = (int)(last % slots);
    const range seen = seen_by(p, first, c);
    const float factor = p.scale * LOG2E;
    float *score = at<float>(p.partial) + ((size_t)blockIdx.y * p.n + c) * slots;
    auto is_seen = [&](int slot) {
        int back = last_slot - slot;
        int64_t key = last - (back < 0 ? back + slots : back);
        return key >= seen.from && key <= seen.to;
    };
    float most = -INFINITY, sum = 0;
    for (int s = lane; s < slots; s += 32)
        if (is_seen(s)) most = fmaxf(most, score[s]);
    for (int step = 16; step; step >>= 1) most = fmaxf(most, __shfl_xor_sync(~0u, most, step));
    for (int s = lane; s < slots; s += 32) {
        score[s] = is_seen(s) ? exp2_fast(__fmul_rn(__fsub_rn(score[s], most), factor)) : 0;
        sum = __fadd_rn(sum, score[s]);
    }
    sum = fold_warp(sum);
    for (int s = lane; s < slots; s += 32) score[s] = __fdiv_rn(score[s], sum);
}
