/* The tiled product: y = W x for more than 8 columns, by tiles of W and of the split activations in shared memory. The
 * order of summation is launch.h's. */
#include "common.cuh"
#include "tiled.h"

/* ---- tiles ---- */

/* A thread block computes ROWS x COLUMNS outputs with WARPS_R x WARPS_C warps. A stage is 64 of k in shared memory:
 * ROWS rows of weights, then COLUMNS columns of hi, then of lo, 128 bytes each. Chunk i (16 bytes) of row r is at chunk
 * i ^ (r % 8), so that neither copies nor ldmatrix have bank conflicts. */
template <int ROWS_, int COLUMNS_, int WARPS_R_, int WARPS_C_, int STAGES_> struct tile {
    static constexpr int ROWS = ROWS_, COLUMNS = COLUMNS_, WARPS_R = WARPS_R_, WARPS_C = WARPS_C_, STAGES = STAGES_;
    static constexpr int THREADS = 32 * WARPS_R * WARPS_C;
    static constexpr int MT = ROWS / WARPS_R / 16, NT = COLUMNS / WARPS_C / 8; /* mma tiles per warp */
    static constexpr uint32_t LINE = 2 * SUR_GPU_PITCH;
    static constexpr uint32_t B = ROWS * LINE, B_LO = COLUMNS * LINE; /* offset of hi in a stage; of lo from hi */
    static constexpr uint32_t STAGE = B + 2 * B_LO;
    static constexpr int COPY_ROWS = THREADS / 8; /* rows that all threads copy at once, 16 bytes each */
    static constexpr int COPIES_A = ROWS / COPY_ROWS, COPIES_B = COLUMNS / COPY_ROWS;
    static_assert(COPY_ROWS % 16 == 0 && ROWS % COPY_ROWS == 0 && COLUMNS % COPY_ROWS == 0, "whole copies");
    static_assert(MT * 16 * WARPS_R == ROWS && NT * 8 * WARPS_C == COLUMNS && NT % 2 == 0, "whole fragments");
};

/* What one thread copies to shared memory: one chunk of every COPY_ROWS-th row, which has the same place in the
 * weights' blocks as in a stage. Rows and columns past the end are not copied: what is there reaches only outputs that
 * are not written. */
template <typename T, bool TWO> struct fetch {
    const char *a, *hi, *lo;
    size_t a_step, b_step;
    int a_left, b_left; /* rows and columns from the thread's first to the end */
    uint32_t to;

    /* TWO: of 16 rows the first 8 are w's and the others the same rows of w_up, so that a thread holds both of a row.
     */
    DEVICE_MEMBER fetch(const sur_gpu_product &p, int row0, int column0)
    {
        int line = (int)threadIdx.x / 8, chunk = (int)threadIdx.x % 8;
        size_t pitch = (size_t)p.pitch * 2;
        int row = row0 + (TWO ? line / 16 * 8 + line % 8 : line), column = column0 + line; /* row % 8 is line's */
        a = at<const char>(TWO && line & 8 ? p.w_up : p.w) + (row & ~7) * pitch;
        a += line % 8 * T::LINE + ((chunk ^ (line & 7)) << 4);
        hi = at<const char>(p.hi) + column * pitch + chunk * 16;
        lo = at<const char>(p.lo) + column * pitch + chunk * 16;
        a_step = (TWO ? T::COPY_ROWS / 2 : T::COPY_ROWS) * pitch;
        b_step = T::COPY_ROWS * pitch;
        a_left = p.rows - row;
        b_left = p.n - column;
        to = line * T::LINE + ((chunk ^ (line & 7)) << 4);
    }
    /* Copies the next 64 of k of the weights. */
    DEVICE_MEMBER void weights(uint32_t stage)
    {
#pragma unroll
        for (int i = 0; i < T::COPIES_A; i++)
            if (i * (TWO ? T::COPY_ROWS / 2 : T::COPY_ROWS) < a_left)
                copy_async(stage + to + i * T::COPY_ROWS * T::LINE, a + i * a_step);
        a += 8 * T::LINE;
    }
    DEVICE_MEMBER void activations(uint32_t stage)
    {
#pragma unroll
        for (int i = 0; i < T::COPIES_B; i++)
            if (i * T::COPY_ROWS < b_left) {
                uint32_t there = stage + T::B + to + i * T::COPY_ROWS * T::LINE;
                copy_async(there, hi + i * b_step);
                copy_async(there + T::B_LO, lo + i * b_step);
            }
        hi += T::LINE;
        lo += T::LINE;
    }
};

/* Sums over a segment, of the high halves of the activations and of the low ones. */
template <typename T> struct chains {
    float hi[T::MT][T::NT][4], lo[T::MT][T::NT][4];
};

/* What a warp's mma need of 16 of k. */
template <typename T> struct fragments {
    uint32_t a[T::MT][4], hi[T::NT / 2][4], lo[T::NT / 2][4];

    DEVICE_MEMBER void load(uint32_t at_a, uint32_t at_b)
    {
#pragma unroll
        for (int i = 0; i < T::NT / 2; i++) load_matrix4(lo[i], at_b + T::B_LO + i * 16 * T::LINE);
#pragma unroll
        for (int i = 0; i < T::MT; i++) load_matrix4(a[i], at_a + i * 16 * T::LINE);
#pragma unroll
        for (int i = 0; i < T::NT / 2; i++) load_matrix4(hi[i], at_b + i * 16 * T::LINE);
    }
    DEVICE_MEMBER void multiply(chains<T> &c) const
    {
#pragma unroll
        for (int m = 0; m < T::MT; m++)
#pragma unroll
            for (int n = 0; n < T::NT; n++) mma_bf16(c.lo[m][n], a[m], lo[n / 2][n % 2 * 2], lo[n / 2][n % 2 * 2 + 1]);
#pragma unroll
        for (int m = 0; m < T::MT; m++)
#pragma unroll
            for (int n = 0; n < T::NT; n++) mma_bf16(c.hi[m][n], a[m], hi[n / 2][n % 2 * 2], hi[n / 2][n % 2 * 2 + 1]);
    }
};

/* ---- after the sums ---- */

/* Loads the norms' scales of the tile's columns, or ones. The block meets before they are used. */
template <typename T> DEVICE void fetch_scales(const sur_gpu_product &p, int column0, float *scales)
{
    const int i = (int)threadIdx.x, c = column0 + i;
    if (i < T::COLUMNS) scales[i] = p.scale && c < p.n ? at<const float>(p.scale)[c] : 1;
}

/* scales: from the thread's first column on. */
template <typename T> DEVICE void scale_sums(float (&sum)[T::MT][T::NT][4], const float *scales)
{
#pragma unroll
    for (int l = 0; l < T::NT * 2; l++) {
        const float scale = scales[l / 2 * 8 + l % 2];
#pragma unroll
        for (int i = 0; i < T::MT * 2; i++) {
            float &v = sum[i / 2][l / 2][i % 2 * 2 + l % 2];
            v = __fmul_rn(v, scale);
        }
    }
}

/* A thread's outputs: rows row + 16 m + 8 h (SWIGLU: row + 8 m), columns column + 8 n + j, at sum[m][n][2 h + j]. */
template <typename T> struct outputs {
    float sum[T::MT][T::NT][4];
    int row, column;
};

/* As finish<SUR_GPU_ADD>, for y alone, with up to 32 loads before their stores: the compiler may not move a load across
 * a store, so that every load would wait for memory. */
template <typename T> DEVICE void put_added(const sur_gpu_product &p, const outputs<T> &o)
{
    constexpr int BATCH = T::NT * (T::MT > 3 ? 4 : 8); /* one or two m, as many as there are registers for */
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

/* As finish_pair, one row at a time: divisions once per row and once per column, a row's loads before its stores. */
template <typename T> DEVICE void put_qkv(const sur_gpu_product &p, const outputs<T> &o, int64_t first)
{
    const sur_gpu_output &out = p.out;
    const sur_gpu_ring &r = out.ring;
    int kv_rows = r.n_kv_heads * r.head_dim;
    uint32_t span = (uint32_t)r.n_blocks * SUR_GPU_KEYS, start = (uint32_t)(first % span);
    uint32_t slot[T::NT][2];
    float pairs[T::MT][T::NT][4]; /* of row ^ 1; exchanged here, where all lanes take part */
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
        /* sur_gpu_key_at and sur_gpu_value_at, in a part that depends on the row and one that depends on the column */
        size_t in_head = (size_t)head * span * r.dp + (value ? e * SUR_GPU_KEYS : 0);
        uint32_t swizzled = value ? e % 8 * 8 : e;
#pragma unroll
        for (int l = 0; l < T::NT * 2; l++) {
            int n = l / 2, j = l % 2, c = o.column + 8 * n + j;
            uint32_t s = slot[n][j], in_block = s % SUR_GPU_KEYS;
            size_t i =
                in_head + (size_t)(value ? s - in_block : s) * r.dp + ((value ? in_block : s % 8 * 8) ^ swizzled);
            if (query) i = (size_t)c * out.stride + row;
            if (row >= p.rows || c >= p.n) continue;
            if (fp32)
                at<float>(to)[i] = x[n][j];
            else
                at<__half>(to)[i] = saturated_half(x[n][j]);
        }
    }
}

/* As finish, for the other epilogues: each step for all of a thread's outputs, so that its conditions are tested once.
 */
template <typename T, int EPILOGUE> DEVICE void put_rest(const sur_gpu_product &p, outputs<T> &o)
{
    constexpr bool TWO = EPILOGUE == SUR_GPU_SWIGLU;
    constexpr int EACH = TWO ? 2 : 4; /* outputs per sum[m][n] */
    float *y = at<float>(p.out.y);
    auto all = [&](auto use) {
#pragma unroll
        for (int i = 0; i < T::MT * T::NT * EACH; i++) {
            int m = i / EACH / T::NT, n = i / EACH % T::NT, row = o.row + (TWO ? 8 : 16) * m + i % EACH / 2 * 8;
            int c = o.column + 8 * n + i % 2;
            if (row < p.rows && c < p.n) use(row, c, o.sum[m][n][i % EACH]);
        }
    };
#pragma unroll
    for (int i = 0; i < T::MT * T::NT * EACH; i++) {
        float(&s)[4] = o.sum[i / EACH / T::NT][i / EACH % T::NT];
        if (EPILOGUE == SUR_GPU_GELU) s[i % EACH] = gelu(s[i % EACH]);
        if constexpr (TWO) s[i % EACH] = silu_mul(s[i % EACH], s[i % EACH + 2]);
    }
    const int64_t first = EPILOGUE == SUR_GPU_ROWS ? *at<const int64_t>(p.out.position) : 0;
    if (y)
        all([&](int row, int c, float v) {
            size_t column = EPILOGUE == SUR_GPU_ROWS ? (size_t)((first + c) % SUR_GPU_ROW_RING) : (size_t)c;
            y[column * p.out.stride + row] = v;
        });
    if (p.out.hi) {
        const split_places to(p.out.hi, p.out.lo, p.out.pitch);
        all([&](int row, int c, float v) { split(v, to.hi[to.index(c, row)], to.lo[to.index(c, row)]); });
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
    if constexpr (EPILOGUE == SUR_GPU_ADD)
        put_added<T>(p, o);
    else if constexpr (EPILOGUE == SUR_GPU_QKV)
        put_qkv<T>(p, o, *at<const int64_t>(p.out.position));
    else
        put_rest<T, EPILOGUE>(p, o);
}

/* ---- the product ---- */

template <typename T> DEVICE void add_segment(float (&sum)[T::MT][T::NT][4], chains<T> &c)
{
#pragma unroll
    for (int i = 0; i < T::MT * T::NT * 4; i++) {
        const int m = i / 4 / T::NT, n = i / 4 % T::NT, e = i % 4;
        sum[m][n][e] = __fadd_rn(sum[m][n][e], __fadd_rn(c.hi[m][n][e], c.lo[m][n][e]));
        c.hi[m][n][e] = c.lo[m][n][e] = 0;
    }
}

/* Fragments of the next 16 of k load while those before are multiplied; stages of 64 arrive STAGES - 1 ahead. */
template <typename T, int EPILOGUE> DEVICE void tiled(const sur_gpu_product &p)
{
    DYNAMIC_SHARED(stages, 1024);
    __shared__ float scales[T::COLUMNS];
    constexpr bool TWO = EPILOGUE == SUR_GPU_SWIGLU;
    constexpr int AHEAD = T::STAGES - 1, STEPS = SUR_GPU_PITCH / 16, TILES_A_SEGMENT = SUR_GPU_SEGMENT / SUR_GPU_PITCH;
    const int row0 = (int)blockIdx.y * (TWO ? T::ROWS / 2 : T::ROWS), column0 = (int)blockIdx.x * T::COLUMNS;
    const int n_tiles = p.pitch / SUR_GPU_PITCH;
    const uint32_t base = shared_address(stages), end = base + T::STAGES * T::STAGE;
    fetch<T, TWO> in(p, row0, column0);
#pragma unroll
    for (int i = 0; i < AHEAD; i++)
        if (i < n_tiles) in.weights(base + i * T::STAGE);
    wait_for_previous();
    let_next_start();
#pragma unroll
    for (int i = 0; i < AHEAD; i++) {
        if (i < n_tiles) in.activations(base + i * T::STAGE);
        copy_commit();
    }
    fetch_scales<T>(p, column0, scales);

    const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
    const int warp_r = warp / T::WARPS_C, warp_c = warp % T::WARPS_C;
    /* ldmatrix: A: rows 0-7, rows 8-15, both of the next 8 of k; B: k 0-7, k 8-15, both of the next 8 columns */
    const uint32_t a_row = warp_r * T::MT * 16 + lane % 16, b_row = warp_c * T::NT * 8 + lane / 16 * 8 + lane % 8;
    const uint32_t a_off = a_row * T::LINE + (((lane / 16) ^ (lane & 7)) << 4);
    const uint32_t b_off = T::B + b_row * T::LINE + ((((lane / 8) & 1) ^ (lane & 7)) << 4);

    outputs<T> out = {};
    chains<T> chain = {};
    fragments<T> now[2];
    uint32_t from = base, to = base + AHEAD * T::STAGE;
    copy_wait<AHEAD - 1>();
    __syncthreads();
    now[0].load(from + a_off, from + b_off);
    for (int t = 0; t < n_tiles; t++) {
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            if (step == STEPS - 1) { /* the next stage has arrived; all warps have finished with this one */
                copy_wait<AHEAD - 1>();
                __syncthreads();
                from = from + T::STAGE == end ? base : from + T::STAGE;
            }
            uint32_t next = (uint32_t)((step + 1) % STEPS) * 32;
            now[(step + 1) % 2].load((from + a_off) ^ next, (from + b_off) ^ next);
            if (step == 0 && t + AHEAD < n_tiles) in.weights(to);
            if (step == 1) {
                if (t + AHEAD < n_tiles) in.activations(to);
                copy_commit();
                to = to + T::STAGE == end ? base : to + T::STAGE;
            }
            now[step % 2].multiply(chain);
        }
        if ((t + 1) % TILES_A_SEGMENT == 0 || t + 1 == n_tiles) add_segment<T>(out.sum, chain);
    }
    out.row = row0 + warp_r * T::MT * (TWO ? 8 : 16) + lane / 4;
    out.column = column0 + warp_c * T::NT * 8 + lane % 4 * 2;
    scale_sums<T>(out.sum, scales + out.column - column0);
    put<T, EPILOGUE>(p, out);
}

#define TILED(name, EPILOGUE, R, C, WR, WC, STAGES, BLOCKS)                                                            \
    extern "C" __global__ void __launch_bounds__(32 * WR * WC, BLOCKS)                                                 \
        k_tiled_##name##_##R##x##C(const __grid_constant__ struct sur_gpu_product p)                                   \
    {                                                                                                                  \
        tiled<tile<R, C, WR, WC, STAGES>, EPILOGUE>(p);                                                                \
    }
#define TILE_KERNELS(R, C, WR, WC, STAGES, BLOCKS, one, two)                                                           \
    TILED(gelu, SUR_GPU_GELU, R, C, WR, WC, STAGES, BLOCKS)                                                            \
    TILED(add, SUR_GPU_ADD, R, C, WR, WC, STAGES, BLOCKS)                                                              \
    TILED(swiglu, SUR_GPU_SWIGLU, R, C, WR, WC, STAGES, BLOCKS)                                                        \
    TILED(qkv, SUR_GPU_QKV, R, C, WR, WC, STAGES, BLOCKS)                                                              \
    TILED(rows, SUR_GPU_ROWS, R, C, WR, WC, STAGES, BLOCKS)
SUR_GPU_TILES(TILE_KERNELS)
