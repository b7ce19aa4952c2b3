/* The interface between the host and the kernels; nvcc and the C compiler both read it. A kernel's only parameter is
 * its struct below, passed by value.
 *
 * Addresses are device addresses unless a field says "pinned" (host memory that the device sees). Activations are fp32
 * unless a field says otherwise.
 *
 * Weights are bf16 in blocks of 8 rows x 64 of k, one kilobyte each: [rows / 8][pitch / 64][8][64], swizzled the way
 * shared memory wants them (sur_gpu_weight_at). So what one warp copies at once is contiguous. pitch is k rounded up to
 * 64, rows are rounded up to 8, and the padding is zero. Matrices for NVIDIA's libraries (--gemm) are row major.
 *
 * The input of a product is split beforehand: x = hi + lo, both bf16. For the tiled kernel these are hi and lo
 * [n][pitch]; for the skinny kernel they are fragments (sur_gpu_fragment_at), in the order in which its warps hold them
 * in registers. Where a norm comes before the product, what is split is x times the norm's weights, and the sums are
 * multiplied by the column's 1 / rms. Its squares are summed by groups of 8 elements
 * ((0 + 4) + (2 + 6)) + ((1 + 5) + (3 + 7)); lane l of a warp adds groups l, l + 32, ... in ascending order; the lanes
 * are folded by butterflies.
 *
 * There is one order of summation. A product sums k in segments of 256. Within a segment one chain of mma.m16n8k16 sums
 * the high halves of the activations and another one the low halves, k ascending; the two fp32 sums are added; then the
 * segments' sums are added in ascending order. Attention takes keys in blocks of 128 that start at absolute positions
 * divisible by 128, sums each block like a segment (with fp16 halves; elements of a head, then keys, ascending), and
 * merges the blocks' softmaxes in ascending order. So no bit depends on the number of columns, the tile, the grid or
 * the kernel. */
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
    SUR_GPU_SEGMENT = 256,      /* elements of k that one chain of mma sums */
    SUR_GPU_PITCH = 64,         /* k of weights and of split activations is padded to a multiple of this */
    SUR_GPU_KEYS = 128,         /* keys per block */
    SUR_GPU_ATTEND_ROWS = 8,    /* rows per thread block of k_attend_64 and _128 */
    SUR_GPU_SKINNY_COLUMNS = 8, /* of a skinny product at most; SUR_STEP_MAX */
    SUR_GPU_ROW_RING = 512,     /* adapter rows; SUR_ROW_RING */
    SUR_GPU_TOP = 4,            /* best logits per column; SUR_TOP */
};

/* Index of element k of row `row` in a matrix of weights. */
SUR_GPU_BOTH int64_t sur_gpu_weight_at(int row, int k, int pitch)
{
    int64_t block = (int64_t)(row / 8) * (pitch / 64) + k / 64;
    return block * 512 + row % 8 * 64 + ((k % 64 / 8) ^ (row % 8)) * 8 + k % 8;
}

/* Fragments: bf16 [pitch / 16][8 columns][4][high k, high k + 8, low k, low k + 8 (two neighbours of k each)], so that
 * what a warp reads at once is contiguous. Index of the high half of element k of column 0; its low half is at
 * + SUR_GPU_LOW, the next column's at + SUR_GPU_FRAGMENT. */
enum { SUR_GPU_LOW = 4, SUR_GPU_FRAGMENT = 32 };
SUR_GPU_BOTH int sur_gpu_fragment_at(int k)
{
    return k / 16 * (SUR_GPU_SKINNY_COLUMNS * SUR_GPU_FRAGMENT) + k % 8 / 2 * 8 + k % 16 / 8 * 2 + k % 2;
}

/* How a kernel is launched. Unused dimensions of the grid are 1. */
struct sur_gpu_launch {
    unsigned grid[3], threads, shared_bytes;
};

/* What a product does with the sum v of row r, column c, after the bias was added. */
enum sur_gpu_epilogue {
    SUR_GPU_GELU,   /* y[c][r] = gelu(v), erf form */
    SUR_GPU_ADD,    /* y[c][r] += v */
    SUR_GPU_SWIGLU, /* w gives g, w_up gives u: y[c][r] = silu(g) * u */
    SUR_GPU_QKV,    /* rows are q, k, v in this order: q rotated to y, k rotated and v to the ring */
    SUR_GPU_ROWS,   /* y[(first + c) % 512][r] = v */
    SUR_GPU_HEAD,   /* y[c][r] = v, and the best four of each column (struct sur_gpu_top); skinny only */
    SUR_GPU_N_EPILOGUES
};

/* An input that k_split reads: column c, element i. */
struct sur_gpu_input {
    sur_gpu_ptr x;    /* [n][stride] */
    sur_gpu_ptr norm; /* [norm_k] weights of an RMSNorm, or 0: none */
    int32_t stride;
    int32_t norm_k; /* elements that are normed together: k, or k / 4 for four frames side by side */
    int32_t taps;   /* not 0: a convolution of this stride; element ch * 3 + t is x[c * taps + t][ch]; no norm */
    float eps;
};

/* One layer's keys and values. Position p is in block p / 128 % n_blocks, slot p % 128.
 * k [n_kv_heads][n_blocks][128][dp], v [n_kv_heads][n_blocks][dp][128] (transposed), fp16 or fp32, swizzled in pieces
 * of 8 elements (sur_gpu_key_at, sur_gpu_value_at). dp is head_dim rounded up to 64; what is beyond head_dim is zero.
 */
struct sur_gpu_ring {
    sur_gpu_ptr k, v;
    int32_t n_blocks, n_kv_heads, head_dim, dp;
    int32_t fp32;
    int32_t unused;
};
/* Index of element e of a slot's key, or value, within its block of 128 * dp. */
SUR_GPU_BOTH int sur_gpu_key_at(int slot, int e, int dp)
{
    return slot * dp + (((e / 8) ^ (slot % 8)) * 8 + e % 8);
}
SUR_GPU_BOTH int sur_gpu_value_at(int slot, int e)
{
    return e * SUR_GPU_KEYS + (((slot / 8) ^ (e % 8)) * 8 + slot % 8);
}

/* Where a product's results go. */
struct sur_gpu_output {
    sur_gpu_ptr y;            /* [n][stride]; 0: only the split result is wanted */
    sur_gpu_ptr hi, lo;       /* the result split for the next product: bf16 [n][pitch] each; lo 0: fragments at hi,
                                 n <= 8; both 0: not wanted. Elements from rows to pitch are not written */
    sur_gpu_ptr norm;         /* with fragments: [rows], multiplied into the split result; or 0 */
    sur_gpu_ptr squares;      /* with norm: [n][(rows + 7) / 8], sums of the squares of 8 results; or 0 */
    sur_gpu_ptr bias;         /* [rows] or 0 */
    sur_gpu_ptr position;     /* int64, QKV and ROWS: position of column 0 */
    sur_gpu_ptr rotation;     /* QKV: [n][head_dim / 2][cos, sin] */
    sur_gpu_ptr top;          /* HEAD: struct sur_gpu_top_state, in device memory */
    struct sur_gpu_ring ring; /* QKV */
    int32_t stride, pitch;
    int32_t q_rows;    /* QKV: n_heads * head_dim */
    int32_t new_place; /* QKV: the kernel right before this one wrote position or rotation */
};

/* Computed on the host (skinny.h), so that no thread block has to. A group is 8 rows. */
struct sur_gpu_skinny {
    int32_t segments;                /* of k; the last may be shorter */
    int32_t ways;                    /* warps that share the tiles of one segment */
    int32_t tiles_per_round;         /* tiles that a block finishes together */
    int32_t warps, slots;            /* warps that multiply; slots of each of them */
    int32_t rounds_dealt, left_over; /* groups that every block has; number of blocks that have one more */
    uint32_t deal_bytes;             /* distance from a block's group to its next one */
    uint32_t last_bytes;             /* of a group in the last segment */
    float per_column;                /* 1 / n */
    int32_t per_segment;             /* slightly more than 2^16 / segments */
    int32_t unused;
};

/* y = W x. The input at hi and lo is zero from k to pitch. Skinny: n <= 8, fragments at hi, lo is 0. */
struct sur_gpu_product {
    sur_gpu_ptr w, w_up; /* w_up: SWIGLU only, else 0 */
    sur_gpu_ptr hi, lo;
    sur_gpu_ptr squares; /* skinny: [n][(k + 7) / 8], of which the norm's scale is computed; 0: no norm */
    sur_gpu_ptr scale;   /* tiled: [n], multiplied into a column's sums; 0: no norm */
    int32_t rows, k, pitch, n;
    float eps;
    int32_t unused;
    struct sur_gpu_skinny skinny;
    struct sur_gpu_output out;
};

/* k_split: splits the input's columns, times the norm's weights if there is a norm; the padding becomes zeros. A norm
 * over less than k is applied here; a norm over all of k leaves its scale to the product: as squares for the skinny
 * one, as scale for the tiled one. */
struct sur_gpu_split {
    sur_gpu_ptr hi, lo;  /* bf16 [n][pitch] each; lo 0: fragments at hi */
    sur_gpu_ptr squares; /* [n][(k + 7) / 8], or 0 */
    sur_gpu_ptr scale;   /* [n], or 0 */
    int32_t k, pitch, n, unused;
    struct sur_gpu_input in;
};
/* One thread block per column; shared memory for the squares of norm_k elements. */
static inline struct sur_gpu_launch sur_gpu_split_launch(const struct sur_gpu_split *s)
{
    struct sur_gpu_launch l = {{(unsigned)s->n, 1, 1}, 256, s->in.norm ? (unsigned)(s->in.norm_k + 7) / 8 * 4 : 0};
    return l;
}

/* k_finish_*: what a product does after its sums, for sums of NVIDIA's libraries: [2][n][rows] fp32, W times the high
 * halves of the columns, then W times the low ones. sums_up: w_up's (SWIGLU only). */
struct sur_gpu_finish {
    sur_gpu_ptr sums, sums_up;
    sur_gpu_ptr scale; /* as for a tiled product */
    int32_t rows, n;
    struct sur_gpu_output out;
};
static inline struct sur_gpu_launch sur_gpu_finish_launch(const struct sur_gpu_finish *f, enum sur_gpu_epilogue e)
{
    const unsigned rows = e == SUR_GPU_QKV ? 512 : 256; /* per thread block */
    struct sur_gpu_launch l = {{((unsigned)f->rows + rows - 1) / rows, (unsigned)f->n, 1}, 256, 0};
    return l;
}

/* k_unroll: copies a ring to fp32 matrices in the order of its slots: keys [n_kv_heads][n_blocks * 128][head_dim],
 * values [n_kv_heads][head_dim][n_blocks * 128]. */
struct sur_gpu_unroll {
    struct sur_gpu_ring ring;
    sur_gpu_ptr keys, values;
};
static inline struct sur_gpu_launch sur_gpu_unroll_launch(const struct sur_gpu_unroll *u)
{
    struct sur_gpu_launch l = {{(unsigned)u->ring.n_blocks, (unsigned)u->ring.n_kv_heads, 1}, 256, 0};
    return l;
}

/* Attention of n queries at positions first .. first + n - 1. A row is a query and a head of the group, query major.
 *
 * kernel                  threads  grid
 * k_attend_64, _128       256      (any, n_kv_heads, row groups of 8): n up to 8; thread block x has key blocks x,
 *                                  x + gridDim.x, ... The number is dp
 * k_attend_many_64, _128  128      (row groups of 64, n_kv_heads)
 * k_attend_plain          128      (n, n_heads): every dp, and rings of fp32
 * k_softmax               256      (n / 8, n_heads): only the softmax. partial [n_heads][n][n_blocks * 128] holds q k
 * in the order of the ring's slots and becomes the weights of the values */
#define SUR_GPU_PARTIAL(dp) ((dp) + 2) /* floats per row of a partial result: sums, maximum, weight */
struct sur_gpu_attend {
    sur_gpu_ptr q;        /* [n][n_heads * head_dim] */
    sur_gpu_ptr out;      /* as q, or 0 */
    sur_gpu_ptr hi, lo;   /* the result split, as in sur_gpu_output; or 0 */
    sur_gpu_ptr position; /* int64: first */
    sur_gpu_ptr partial;  /* [n_kv_heads][row groups], sums [max_blocks][8][dp], then maximum and weight
                             [max_blocks][8][2]; k_attend_64 and _128 */
    sur_gpu_ptr counters; /* int32 [n_kv_heads][row groups], zero between launches; k_attend_64 and _128 */
    struct sur_gpu_ring ring;
    int32_t n, n_heads, window, max_blocks;
    float scale;
    int32_t pitch;
};

/* For k_attend_64 and _128. Two thread blocks per multiprocessor if there are enough keys: one computes while the keys
 * of the other arrive. Shared memory: keys, values, split queries, split weights. */
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

/* For k_attend_many_64 and _128. Shared memory: split queries, and keys and values; for heads of up to 64 two buffers
 * of the latter, so that they arrive ahead (with 128 not every GPU has the room). */
static inline struct sur_gpu_launch sur_gpu_attend_many_launch(const struct sur_gpu_attend *a)
{
    const unsigned rows = (unsigned)(a->n * (a->n_heads / a->ring.n_kv_heads)), dp = (unsigned)a->ring.dp;
    const unsigned bytes = 4 * (64 + SUR_GPU_KEYS * (dp == 64 ? 2 : 1)) * dp;
    struct sur_gpu_launch l = {{(rows + 63) / 64, (unsigned)a->ring.n_kv_heads, 1}, 128, bytes};
    return l;
}
static inline struct sur_gpu_launch sur_gpu_attend_plain_launch(const struct sur_gpu_attend *a)
{
    struct sur_gpu_launch l = {{(unsigned)a->n, (unsigned)a->n_heads, 1}, SUR_GPU_KEYS, 0};
    return l;
}
static inline struct sur_gpu_launch sur_gpu_softmax_launch(const struct sur_gpu_attend *a)
{
    struct sur_gpu_launch l = {{(unsigned)(a->n + 7) / 8, (unsigned)a->n_heads, 1}, 256, 0};
    return l;
}

/* Read by the first kernel of a pass; the host writes it before it launches the pass. */
struct sur_gpu_request {
    int64_t first;     /* position of column 0 */
    int64_t first_row; /* encoder: adapter row of column 0, first / 4 */
    int32_t unused;
    int32_t tokens[1]; /* decoder: [n]; tokens[0] below 0: take the token from sur_gpu_embed.before */
};

/* k_embed, the start of a decoder pass: h[c] = rows[(first + c) % 512] + embedding[tokens[c]], rotation and position;
 * in a skinny pass h is also split for the first layer. One thread block per column. */
struct sur_gpu_embed {
    sur_gpu_ptr request;            /* pinned */
    sur_gpu_ptr rows, embedding, h; /* [512][dim], weights [vocab][pitch], [n][dim] */
    sur_gpu_ptr position, rotation; /* out: int64; [n][head_dim / 2][2] */
    sur_gpu_ptr inv;                /* [head_dim / 2] */
    sur_gpu_ptr norm, hi, squares;  /* skinny pass: [dim]; out: fragments of h times norm, squares of h; else 0 */
    sur_gpu_ptr before;             /* int32, pinned: the token that the step before gave; or 0 */
    int32_t dim, pitch, n, half;
};

/* k_begin, the start of an encoder pass: writes rotation and positions. One thread block per column. */
struct sur_gpu_begin {
    sur_gpu_ptr request; /* in device memory */
    sur_gpu_ptr position, row_position, rotation, inv;
    int32_t n, half; /* n: columns */
};

/* k_carry, the end of the stem: copies the last rows to the front, where the next pass expects them. */
struct sur_gpu_carry {
    sur_gpu_ptr mel, conv0; /* [2 + n_frames][n_mels], [1 + n_frames][e] */
    int32_t n_mels, e, n_frames, unused;
};

/* k_randomize: sets the keys and values of positions from .. from + n - 1 to numbers in +-1 that depend on position,
 * layer and element alone. One thread block per position. */
struct sur_gpu_randomize {
    struct sur_gpu_ring ring;
    int64_t from;
    int32_t n, layer;
};

/* The best four logits of a column, best first; the host reads them (pinned). */
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
