/* What becomes of a wide product's sums, whoever summed them. T: a tile with MT x NT fragments of 16 rows x 8 columns a
 * warp. */
#pragma once

#include "common.cuh"

template <typename T> DEVICE void add_segment(float (&sum)[T::MT][T::NT][4], float (&chain)[T::MT][T::NT][4])
{
#pragma unroll
    for (int i = 0; i < T::MT * T::NT * 4; i++) {
        float &c = chain[i / 4 / T::NT][i / 4 % T::NT][i % 4], &s = sum[i / 4 / T::NT][i / 4 % T::NT][i % 4];
        s = __fadd_rn(s, c);
        c = 0.0f;
    }
}

/* A thread's outputs: rows row + 16 m + 8 h (SWIGLU: row + 8 m), columns column + 8 n + j, at sum[m][n][2 h + j]. */
template <typename T> struct outputs {
    float sum[T::MT][T::NT][4];
    int row, column;
};

/* finish<SUR_GPU_ADD>, of y alone, with up to 32 loads before their stores: the compiler may not move a load across a
 * store, and each would wait for memory anew. */
template <typename T> DEVICE void put_added(const sur_gpu_product &p, const outputs<T> &o)
{
    constexpr int BATCH = T::NT * (T::MT > 3 ? 4 : 8); /* one or two m: what the registers hold */
    float *y = at<float>(p.out.y);
#pragma unroll
    for (int from = 0; from < T::MT * T::NT * 4; from += BATCH) {
        float old[BATCH];
#pragma unroll
        for (int i = from; i < from + BATCH && i < T::MT * T::NT * 4; i++) {
            int row = o.row + 16 * (i / 4 / T::NT) + i % 4 / 2 * 8, c = o.column + 8 * (i / 4 % T::NT) + i % 2;
            old[i - from] = row < p.rows && c < p.n ? y[(size_t)c * p.out.stride + row] : 0.0f;
        }
#pragma unroll
        for (int i = from; i < from + BATCH && i < T::MT * T::NT * 4; i++) {
            int row = o.row + 16 * (i / 4 / T::NT) + i % 4 / 2 * 8, c = o.column + 8 * (i / 4 % T::NT) + i % 2;
            float v = __fadd_rn(old[i - from], o.sum[i / 4 / T::NT][i / 4 % T::NT][i % 4]);
            if (row < p.rows && c < p.n) y[(size_t)c * p.out.stride + row] = v;
        }
    }
}

/* finish_pair, of a row at a time: with its divisions once a row and once a column, and a row's loads before its
 * stores. */
template <typename T> DEVICE void put_qkv(const sur_gpu_product &p, const outputs<T> &o, int64_t first)
{
    const sur_gpu_output &out = p.out;
    const sur_gpu_ring &r = out.ring;
    int kv_rows = r.n_kv_heads * r.head_dim;
    uint32_t span = (uint32_t)r.n_blocks * SUR_GPU_KEYS, start = (uint32_t)(first % span);
    uint32_t slot[T::NT][2];
    float pairs[T::MT][T::NT][4]; /* of row ^ 1; exchanged here, where no lane has strayed yet */
#pragma unroll
    for (int i = 0; i < T::MT * T::NT * 4; i++) {
        int m = i / 4 / T::NT, n = i / 4 % T::NT;
        pairs[m][n][i % 4] = __shfl_xor_sync(~0u, o.sum[m][n][i % 4], 4);
    }
#pragma unroll
    for (int i = 0; i < T::NT * 2; i++) slot[i / 2][i % 2] = (start + o.column + 8 * (i / 2) + i % 2) % span;
#pragma unroll
    for (int i = 0; i < T::MT * 2; i++) {
        int m = i / 2, h = i % 2, row = o.row + 16 * m + 8 * h;
        int in = row < out.q_rows ? row : (row - out.q_rows) % kv_rows, head = in / r.head_dim, e = in % r.head_dim;
        bool value = row >= out.q_rows + kv_rows;
        float2 cs[T::NT][2];
        float x[T::NT][2];
#pragma unroll
        for (int l = 0; l < T::NT * 2; l++) {
            int n = l / 2, j = l % 2, c = o.column + 8 * n + j;
            cs[n][j] = row < p.rows && c < p.n && !value
                           ? at<const float2>(out.rotation)[((size_t)c * r.head_dim + (e & ~1)) / 2]
                           : make_float2(1.0f, 0.0f);
        }
#pragma unroll
        for (int l = 0; l < T::NT * 2; l++) {
            int n = l / 2, j = l % 2;
            float v = o.sum[m][n][2 * h + j], pair = pairs[m][n][2 * h + j];
            float2 turn = cs[n][j];
            float straight = __fmul_rn(v, turn.x), across = -__fmul_rn(pair, turn.y);
            x[n][j] = __fmaf_rn(e & 1 ? pair : v, e & 1 ? turn.y : turn.x, e & 1 ? straight : across);
            if (value) x[n][j] = v;
        }
        bool query = row < out.q_rows, fp32 = query || r.fp32;
        sur_gpu_ptr to = query ? out.y : value ? r.v : r.k;
        size_t in_head = (size_t)head * span * r.dp + (value ? e * SUR_GPU_KEYS : e);
#pragma unroll
        for (int l = 0; l < T::NT * 2; l++) {
            int n = l / 2, j = l % 2, c = o.column + 8 * n + j;
            uint32_t s = slot[n][j], in_block = s % SUR_GPU_KEYS;
            size_t i = in_head + (value ? (size_t)(s - in_block) * r.dp + in_block : (size_t)s * r.dp);
            if (query) i = (size_t)c * out.stride + row;
            if (row >= p.rows || c >= p.n) continue;
            if (fp32)
                at<float>(to)[i] = x[n][j];
            else
                at<__half>(to)[i] = saturated_half(x[n][j]);
        }
    }
}

template <typename T, int EPILOGUE> DEVICE void put(const sur_gpu_product &p, outputs<T> &o)
{
    constexpr bool TWO = EPILOGUE == SUR_GPU_SWIGLU;
    if (p.out.bias) {
        const float *bias = at<const float>(p.out.bias);
#pragma unroll
        for (int i = 0; i < T::MT * (TWO ? 1 : 2); i++) {
            int m = i / (TWO ? 1 : 2), h = TWO ? 0 : i % 2, row = o.row + (TWO ? 8 : 16) * m + 8 * h;
            float b = row < p.rows ? bias[row] : 0.0f;
#pragma unroll
            for (int l = 0; l < T::NT * 2; l++) {
                float &v = o.sum[m][l / 2][2 * h + l % 2];
                v = __fadd_rn(v, b);
            }
        }
    }
    if constexpr (EPILOGUE == SUR_GPU_ADD) {
        put_added<T>(p, o);
    } else if constexpr (EPILOGUE == SUR_GPU_QKV) {
        put_qkv<T>(p, o, *at<const int64_t>(p.out.position));
    } else {
        int64_t first = EPILOGUE == SUR_GPU_ROWS ? *at<const int64_t>(p.out.position) : 0;
#pragma unroll
        for (int i = 0; i < T::MT * T::NT * (TWO ? 2 : 4); i++) {
            int m = i / (TWO ? 2 : 4) / T::NT, n = i / (TWO ? 2 : 4) % T::NT, h = TWO ? 0 : i % 4 / 2, j = i % 2;
            int row = o.row + (TWO ? 8 : 16) * m + 8 * h, c = o.column + 8 * n + j;
            float v = o.sum[m][n][2 * h + j], pair = TWO ? o.sum[m][n][2 + j] : 0.0f;
            if (row < p.rows && c < p.n) finish<EPILOGUE>(p.out, row, c, v, pair, first);
        }
    }
}
