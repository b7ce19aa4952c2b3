/* What nvcc and the C compiler both read: one struct a kernel, passed by value as its only parameter.
 *
 * Addresses are device addresses. Activations are fp32 unless a field says otherwise.
 *
 * A matrix of weights is bf16 in blocks of 8 rows x 64 of k, a kilobyte each: [rows / 8][pitch / 64][8][64], swizzled
 * as shared memory wants them (sur_gpu_weight_at); pitch is k rounded up to 64, rows are rounded up to 8, what lies
 * beyond is zero. So what one warp fetches at once lies in one stretch. Matrices of a library (--gemm) are row major.
 *
 * A product's input is split beforehand, x = hi + lo, both bf16: for the tiled kernel hi and lo [n][pitch] each, for
 * the skinny one as fragments (sur_gpu_fragment_at), as its warps hold them in registers. Where a norm comes before the
 * product, what is split is x times the norm's weights; the column's 1 / rms multiplies the sums. Its squares are
 * summed by groups of 8 elements ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7)), lane l of a warp adds groups l, l + 32, ...
 * ascending, the lanes fold by butterflies.
 *
 * The one order of summation. A product over k runs in segments of 256: within a segment a chain of mma.m16n8k16 over
 * the high halves of the activations and one over the low ones, k ascending; both chains' fp32 sums are added, and the
 * segments' sums in ascending order. Attention takes keys in blocks of 128 that start at absolute positions divisible
 * by 128, sums a block like a segment (the halves of fp16; elements of a head, then keys, ascending), and merges the
 * blocks' softmaxes in ascending order. So no bit depends on the number of columns, the tile, the grid or the kernel
 * (skinny or tiled). */
#ifndef SUR_KERNELS_LAUNCH_H
#define SUR_KERNELS_LAUNCH_H

#include <stdint.h>

#ifdef __CUDACC__
#define SUR_GPU_BOTH static inline __host__ __device__
#else
#define SUR_GPU_BOTH static inline
#endif

typedef uint64_t sur_gpu_ptr;

enum {
    SUR_GPU_SEGMENT = 256,      /* k that a chain of mma sums */
    SUR_GPU_PITCH = 64,         /* k of weights and of split activations is padded to this */
    SUR_GPU_KEYS = 128,         /* keys a block */
    SUR_GPU_ATTEND_ROWS = 8,    /* rows that a thread block of k_attend_64 and _128 takes */
    SUR_GPU_SKINNY_COLUMNS = 8, /* columns that the skinny kernel takes at most */
    SUR_GPU_ROW_RING = 512,     /* adapter rows: SUR_ROW_RING */
    SUR_GPU_TOP = 4,            /* SUR_TOP */
};

/* Where element k of row `row` of a matrix of weights lies. */
SUR_GPU_BOTH int64_t sur_gpu_weight_at(int row, int k, int pitch)
{
    int64_t block = (int64_t)(row / 8) * (pitch / 64) + k / 64;
    return block * 512 + row % 8 * 64 + ((k % 64 / 8) ^ (row % 8)) * 8 + k % 8;
}

/* Fragments, bf16 [pitch / 16][8 columns][4][high k, high k + 8, low k, low k + 8 (of two neighbours each)]: where the
 * high half of element k of the first column lies; the low one lies SUR_GPU_LOW further, the next column's
 * SUR_GPU_FRAGMENT. So what a warp reads at once lies side by side. */
enum { SUR_GPU_LOW = 4, SUR_GPU_FRAGMENT = 32 };
SUR_GPU_BOTH int sur_gpu_fragment_at(int k)
{
    return k / 16 * (SUR_GPU_SKINNY_COLUMNS * SUR_GPU_FRAGMENT) + k % 8 / 2 * 8 + k % 16 / 8 * 2 + k % 2;
}

/* How a kernel is launched; kernels of one dimension leave grid[1] and grid[2] at 1. */
struct sur_gpu_launch {
    unsigned grid[3], threads, shared_bytes;
};

/* What becomes of a sum v of row r, column c, after its bias was added. */
enum sur_gpu_epilogue {
    SUR_GPU_GELU,   /* y[c][r] = gelu(v), erf form */
    SUR_GPU_ADD,    /* y[c][r] += v */
    SUR_GPU_SWIGLU, /* w gives g, w_up gives u: y[c][r] = silu(g) * u */
    SUR_GPU_QKV,    /* rows are q, k, v, one after another: q rotated into y, k rotated and v into the ring */
    SUR_GPU_ROWS,   /* y[(first + c) % 512][r] = v */
    SUR_GPU_HEAD,   /* y[c][r] = v, and the best four of each column (struct sur_gpu_top) */
    SUR_GPU_N_EPILOGUES
};

/* Where columns of activations come from: column c, element i. */
struct sur_gpu_input {
    sur_gpu_ptr x;    /* [n][stride] */
    sur_gpu_ptr norm; /* [norm_k] weights of an RMSNorm, or 0: none */
    int32_t stride;
    int32_t norm_k; /* k, or each run of norm_k elements is normed by itself: k / 4 for four frames side by side */
    int32_t taps;   /* 0, or the stride of a convolution: element ch * 3 + t is x[c * taps + t][ch], norm is 0 */
    float eps;
};

/* One layer's keys and values. Position p lies in block p / 128 % n_blocks, slot p % 128.
 * k [n_kv_heads][n_blocks][128][dp], v [n_kv_heads][n_blocks][dp][128] (transposed), swizzled by pieces of 8 elements
 * (sur_gpu_key_at, sur_gpu_value_at), fp16, or fp32 where the field says so. dp: head_dim rounded up to a multiple of
 * 64; what is beyond head_dim is zero. */
struct sur_gpu_ring {
    sur_gpu_ptr k, v;
    int32_t n_blocks, n_kv_heads, head_dim, dp;
    int32_t fp32;
    int32_t unused;
};
/* Element e of the slot's key, or value, within its block of 128 * dp. */
SUR_GPU_BOTH int sur_gpu_key_at(int slot, int e, int dp)
{
    return slot * dp + (((e / 8) ^ (slot % 8)) * 8 + e % 8);
}
SUR_GPU_BOTH int sur_gpu_value_at(int slot, int e)
{
    return e * SUR_GPU_KEYS + (((slot / 8) ^ (e % 8)) * 8 + slot % 8);
}

struct sur_gpu_output {
    sur_gpu_ptr y;            /* fp32 [n][stride], or 0 when hi and lo take the result */
    sur_gpu_ptr hi, lo;       /* the result split for the product that follows: bf16 [n][pitch] each; lo 0: fragments at
                                 hi, n <= 8; or both 0. From rows to pitch nothing is written */
    sur_gpu_ptr norm;         /* with fragments: weights [rows] that the split result is multiplied by, or 0 */
    sur_gpu_ptr squares;      /* with norm: [n][(rows + 7) / 8], sums of 8 results' squares; or 0 */
    sur_gpu_ptr bias;         /* [rows] or 0 */
    sur_gpu_ptr position;     /* int64: of column 0 (QKV: of its token; ROWS: of its row) */
    sur_gpu_ptr rotation;     /* QKV: [n][head_dim / 2][cos, sin] */
    sur_gpu_ptr top;          /* HEAD: struct sur_gpu_top_state, in device memory */
    struct sur_gpu_ring ring; /* QKV */
    int32_t stride, pitch;
    int32_t q_rows;    /* QKV: n_heads * head_dim */
    int32_t new_place; /* QKV: the kernel before wrote position or rotation */
};

/* What every block of a skinny product would otherwise work out for itself (skinny.h). */
struct sur_gpu_skinny {
    int32_t segments;                /* of 256 of k, the last perhaps shorter */
    int32_t ways;                    /* warps that share a segment's tiles */
    int32_t tiles_a_round;           /* that a block finishes together */
    int32_t warps, slots;            /* that multiply; that each of them fetches ahead */
    int32_t rounds_dealt, left_over; /* groups of rows that every block has; first blocks that have one more */
    uint32_t deal_bytes;             /* from a block's group to its next */
    uint32_t last_bytes;             /* of a group in the last segment */
    float a_column;                  /* 1 / n */
    int32_t a_segment;               /* a little more than 2^16 / segments */
    int32_t unused;
};

/* y = W x. hi and lo hold the input, zeros from k on. Skinny: n <= 8, lo is 0, fragments at hi; normed if
 * there are squares. Tiled: normed if there is a scale. */
struct sur_gpu_product {
    sur_gpu_ptr w, w_up; /* w_up: SWIGLU only, else 0 */
    sur_gpu_ptr hi, lo;
    sur_gpu_ptr squares; /* skinny: [n][(k + 7) / 8], or 0 */
    sur_gpu_ptr scale;   /* tiled: [n], what a column's sums are multiplied by, or 0 */
    int32_t rows, k, pitch, n;
    float eps;
    int32_t unused;
    struct sur_gpu_skinny skinny;
    struct sur_gpu_output out;
};

/* The input's columns, split and, if it says so, times the norm's weights; pads are written as zeros. Runs shorter than
 * k are normed for good; else the norm's scale is left to the product: squares for the skinny one, scale for the tiled.
 */
struct sur_gpu_split {
    sur_gpu_ptr hi, lo;  /* bf16 [n][pitch] each; lo 0: fragments at hi */
    sur_gpu_ptr squares; /* [n][(k + 7) / 8], or 0 */
    sur_gpu_ptr scale;   /* [n], or 0 */
    int32_t k, pitch, n, unused;
    struct sur_gpu_input in;
};
/* A column a block; shared memory for the sums of a run's squares. */
static inline struct sur_gpu_launch sur_gpu_split_launch(const struct sur_gpu_split *s)
{
    struct sur_gpu_launch l = {{(unsigned)s->n, 1, 1}, 256, s->in.norm ? (unsigned)(s->in.norm_k + 7) / 8 * 4 : 0};
    return l;
}

/* What a library multiplied becomes a product's output: sums [2][n][rows] fp32 are W times the high halves of the
 * columns and W times the low ones, sums_up w_up's (SWIGLU only). 256 threads, grid (rows / 256, n), of QKV
 * (rows / 512, n). */
struct sur_gpu_finish {
    sur_gpu_ptr sums, sums_up;
    sur_gpu_ptr scale; /* as of a tiled product */
    int32_t rows, n;
    struct sur_gpu_output out;
};

/* A ring as plain fp32 matrices in the order of its slots: keys [n_kv_heads][n_blocks * 128][head_dim], values
 * [n_kv_heads][head_dim][n_blocks * 128]. 256 threads, grid (n_blocks, n_kv_heads). */
struct sur_gpu_unroll {
    struct sur_gpu_ring ring;
    sur_gpu_ptr keys, values;
};

/* out = attention of n queries at positions first .. first + n - 1. Rows are (query, head of the group), query major.
 * k_attend_64 and _128 (the dp): n up to 8; 256 threads, grid (any number, n_kv_heads, row groups of 8): block x takes
 * the x-th block of keys and those gridDim.x further on. k_attend_many_64 and _128: 128 threads, grid (row groups of
 * 64, n_kv_heads). k_attend_plain: 128 threads, grid (n, n_heads).
 * k_softmax takes the same and does only the middle: partial [n_heads][n][n_blocks * 128], q k in the order of the
 * ring's slots, becomes the weights of the values; 256 threads, grid (n / 8, n_heads). */
#define SUR_GPU_PARTIAL(dp) ((dp) + 2) /* floats of a row's partial result: sums, maximum, weight */
struct sur_gpu_attend {
    sur_gpu_ptr q;        /* [n][n_heads * head_dim] */
    sur_gpu_ptr out;      /* as q, or 0 */
    sur_gpu_ptr hi, lo;   /* the result split, as sur_gpu_output has it; or 0 */
    sur_gpu_ptr position; /* int64: first */
    sur_gpu_ptr partial;  /* [n_kv_heads][row groups], sums [max_blocks][8][dp], then maximum and weight
                             [max_blocks][8][2]; k_attend_64 and _128 */
    sur_gpu_ptr counters; /* int32 [n_kv_heads][row groups], zero between launches; k_attend_64 and _128 */
    struct sur_gpu_ring ring;
    int32_t n, n_heads, window, max_blocks;
    float scale;
    int32_t pitch;
};

/* Of k_attend_64 and _128. Two thread blocks a multiprocessor, as far as there are keys: one computes while the other's
 * keys arrive. Shared memory: keys, values, queries and weights, the last two split. */
static inline struct sur_gpu_launch sur_gpu_attend_launch(const struct sur_gpu_attend *a, int multiprocessors)
{
    const unsigned rows = (unsigned)(a->n * (a->n_heads / a->ring.n_kv_heads)), dp = (unsigned)a->ring.dp;
    const unsigned groups = (rows + SUR_GPU_ATTEND_ROWS - 1) / SUR_GPU_ATTEND_ROWS;
    const unsigned most = 2 * (unsigned)multiprocessors / ((unsigned)a->ring.n_kv_heads * groups);
    const unsigned takers = most < 1 ? 1 : most < (unsigned)a->max_blocks ? most : (unsigned)a->max_blocks;
    struct sur_gpu_launch l = {{takers, (unsigned)a->ring.n_kv_heads, groups},
                               256,
                               4 * ((SUR_GPU_KEYS + SUR_GPU_ATTEND_ROWS) * dp + SUR_GPU_ATTEND_ROWS * SUR_GPU_KEYS)};
    return l;
}

/* What the first kernel of a pass reads, written by the host before it launches. */
struct sur_gpu_request {
    int64_t first;     /* position of the first column: a decoder's, or an encoder's frame */
    int64_t first_row; /* encoder: its row, first / 4 */
    int32_t unused;
    int32_t tokens[1]; /* decoder: [n]; of the first, below 0: sur_gpu_embed's before */
};

/* Start of a decoder pass: h[c] = rows[(first + c) % 512] + embedding[tokens[c]], the rotation, the position; of a
 * skinny pass also h split for the first layer. A column a block. */
struct sur_gpu_embed {
    sur_gpu_ptr request;            /* pinned */
    sur_gpu_ptr rows, embedding, h; /* [512][dim], weights [vocab][pitch], [n][dim] */
    sur_gpu_ptr position, rotation; /* out: int64; [n][head_dim / 2][2] */
    sur_gpu_ptr inv;                /* [head_dim / 2] */
    sur_gpu_ptr norm, hi, squares;  /* skinny: weights [dim]; out: fragments of h times them, sums of squares; else 0 */
    sur_gpu_ptr before;             /* int32, pinned: the token that the step before gave, or 0 */
    int32_t dim, pitch, n, half;
};

/* Start of an encoder pass: sets the rotation and the positions. A column a block. */
struct sur_gpu_begin {
    sur_gpu_ptr request; /* in device memory */
    sur_gpu_ptr position, row_position, rotation, inv;
    int32_t n, half; /* n: columns */
};

/* End of the stem: the last rows become the carried ones. */
struct sur_gpu_carry {
    sur_gpu_ptr mel, conv0; /* [2 + n_frames][n_mels], [1 + n_frames][e] */
    int32_t n_mels, e, n_frames, unused;
};

/* Keys and values of positions from .. from + n - 1 become numbers in +-1 that depend on the position, the layer and
 * the element alone. A position a block. */
struct sur_gpu_randomize {
    struct sur_gpu_ring ring;
    int64_t from;
    int32_t n, layer;
};

/* The best four logits of a column, as the host reads them (pinned). */
struct sur_gpu_top {
    int32_t id[SUR_GPU_TOP];
    float value[SUR_GPU_TOP];
};

/* Device memory of the head: candidates of each block, a counter that is zero between launches, and where the result
 * goes. */
struct sur_gpu_top_state {
    sur_gpu_ptr candidates; /* uint64 [grid][8][4] */
    sur_gpu_ptr counter;    /* uint32 */
    sur_gpu_ptr result;     /* struct sur_gpu_top [8], pinned */
};

/* Reads n bytes from several blocks and keeps nothing: the bandwidth that shares are of. */
struct sur_gpu_probe {
    sur_gpu_ptr data, sink;
    uint64_t n_bytes;
};

#define SUR_GPU_SIZE(type, bytes) _Static_assert(sizeof(struct type) == (bytes), #type)
#ifdef __cplusplus
#undef SUR_GPU_SIZE
#define SUR_GPU_SIZE(type, bytes) static_assert(sizeof(type) == (bytes), #type)
#endif
SUR_GPU_SIZE(sur_gpu_input, 32);
SUR_GPU_SIZE(sur_gpu_ring, 40);
SUR_GPU_SIZE(sur_gpu_output, 128);
SUR_GPU_SIZE(sur_gpu_skinny, 48);
SUR_GPU_SIZE(sur_gpu_product, 248);
SUR_GPU_SIZE(sur_gpu_split, 80);
SUR_GPU_SIZE(sur_gpu_finish, 160);
SUR_GPU_SIZE(sur_gpu_unroll, 56);
SUR_GPU_SIZE(sur_gpu_attend, 120);
SUR_GPU_SIZE(sur_gpu_embed, 104);
SUR_GPU_SIZE(sur_gpu_begin, 48);
SUR_GPU_SIZE(sur_gpu_carry, 32);
SUR_GPU_SIZE(sur_gpu_randomize, 56);
SUR_GPU_SIZE(sur_gpu_top, 32);

#endif
