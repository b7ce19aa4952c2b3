/* The integer products, written once for vectors of LANES rows. A file per instruction set defines
 *   LANES                  rows in a vector of int32 or float: 4, 8 or 16
 *   FMA(a, b, c)           fused multiply-add in fp32
 *   LOAD_U8(p), LOAD_I8(p) loads LANES bytes as int32; LOAD_FP16(p): LANES fp16 numbers as float
 *   struct acc, ACC_ZERO   partial integer sums of LANES rows with one column
 *   acc_step(acc, w, g, j) adds four columns: bytes w of each row times columns 4 j .. 4 j + 3 of the group g
 *   acc_sum(acc)           returns the sum as int32
 *   SIGNED_BYTES           1: acc_step takes w as signed bytes, 0: as unsigned
 *   put_group(to, q)       writes the 32 integers of a group as acc_step reads them
 *   COLUMNS                columns of a tile that stay in registers
 *   PREFETCH_ONE           whether products of one column prefetch, too, which depends on the processor
 *   QUANT_OPS, QUANT_NAME  name of the table, and what it calls itself
 * partly by including quant_vectors_body.h and quant_halves_body.h, and then includes this file. */
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

typedef quant_vi vi;
typedef quant_vf vf;
typedef int32_t vi_unaligned __attribute__((vector_size(LANES * 4), aligned(4), may_alias));

enum { PREFETCH_BYTES = 3552 }; /* one and a half blocks of Q4_K */
enum { PARTS = SUR_TILE_ROWS / LANES, DWORD_BYTES = SUR_TILE_ROWS * 4 };

/* ---- activations ---- */

static void quantise(struct sur_quant_group *to, const float *x, int k)
{
    for (; k > 0; k -= SUR_GROUP, x += SUR_GROUP, to++) {
        int32_t q[SUR_GROUP], most = 0;
        float max, inverse;
        for (int i = 0; i < SUR_GROUP; i++) { /* magnitudes as integers: above infinity's is NaN */
            int32_t bits;
            memcpy(&bits, x + i, sizeof bits);
            bits &= 0x7fffffff;
            most = bits > most ? bits : most;
        }
        memcpy(&max, &most, sizeof max);
        const bool finite = most < 0x7f800000, zero = max < 0x1p-100f;
        inverse = zero || !finite ? 0 : 32512.0f / max;
        to->scale = zero ? 0 : finite ? max / 32512.0f : __builtin_nanf("");
        for (int i = 0; i < SUR_GROUP; i++) { /* adding 1.5 * 2^23 rounds to an integer, which stands in the low bits */
            float rounded = (finite ? x[i] * inverse : 0.0f) + 0x1.8p23f;
            memcpy(q + i, &rounded, sizeof *q);
            q[i] -= 0x4b400000;
        }
        int32_t sum[2] = {0, 0};
        for (int i = 0; i < SUR_GROUP / 2; i++) {
            sum[0] += q[i];
            sum[1] += q[SUR_GROUP / 2 + i];
        }
        to->sum[0] = sum[0];
        to->sum[1] = sum[1];
        to->total = (float)(sum[0] + sum[1]);
        put_group(to, q);
    }
}

/* ---- products ---- */

/* One dword of each row of part p: columns 4 j .. of a group of bytes, or 8 j .. of a group of nibbles. */
INLINE vi load_dwords(const uint8_t *group, int j, int p)
{
    return *(const vi_unaligned *)(group + j * DWORD_BYTES + p * LANES * 4);
}

/* G of a whole group with `cols` columns. */
INLINE void sum_nibbles(vi *sum, const uint8_t *group, const struct sur_quant_group *const *x, int g, int p,
                        const int cols)
{
    struct acc low[COLUMNS], high[COLUMNS]; /* two chains, so that neither waits for itself */
    UNROLL for (int c = 0; c < cols; c++) low[c] = high[c] = ACC_ZERO;
    UNROLL for (int j = 0; j < 4; j++)
    {
        vi w = load_dwords(group, j, p), a = w & 0x0f0f0f0f, b = (w >> 4) & 0x0f0f0f0f;
        UNROLL for (int c = 0; c < cols; c++) low[c] = acc_step(low[c], a, x[c] + g, 2 * j);
        UNROLL for (int c = 0; c < cols; c++) high[c] = acc_step(high[c], b, x[c] + g, 2 * j + 1);
    }
    UNROLL for (int c = 0; c < cols; c++) sum[c] = acc_sum(low[c]) + acc_sum(high[c]);
}

/* The same of columns 16 h .. 16 h + 15 of a group of bytes; flip: they are stored with the top bit inverted. */
INLINE void sum_bytes(vi *sum, const uint8_t *group, const struct sur_quant_group *const *x, int g, int h, int p,
                      const int cols, const bool flip)
{
    struct acc a[COLUMNS];
    UNROLL for (int c = 0; c < cols; c++) a[c] = ACC_ZERO;
    UNROLL for (int j = 0; j < 4; j++)
    {
        vi w = load_dwords(group, 4 * h + j, p);
        if (flip) w ^= (int32_t)0x80808080;
        UNROLL for (int c = 0; c < cols; c++) a[c] = acc_step(a[c], w, x[c] + g, 4 * h + j);
    }
    UNROLL for (int c = 0; c < cols; c++) sum[c] = acc_sum(a[c]);
}

INLINE vf splat(float f)
{
    return (vf){0} + f;
}

INLINE vf to_float(vi v)
{
    return __builtin_convertvector(v, vf);
}

/* Group g of a block, the block being group `first` of the columns and on: adds it to the segments of `cols` columns.
 */
INLINE void add_group(vf *segment, const enum sur_weight_type type, const uint8_t *block, vf d, vf dmin, int g,
                      const struct sur_quant_group *const *x, int first, int p, const int cols)
{
    const uint8_t *scales = block + SUR_PACKED_SCALES + p * LANES, *groups = block + SUR_PACKED_K_GROUPS;
    vi sum[COLUMNS], half[COLUMNS];
    if (type == SUR_WEIGHT_Q6_K) {
        UNROLL for (int h = 0; h < 2; h++)
        {
            vf sw = d * to_float(LOAD_I8(scales + (2 * g + h) * SUR_TILE_ROWS));
            sum_bytes(sum, groups + g * SUR_BYTE_GROUP_BYTES, x, first + g, h, p, cols, false);
            UNROLL for (int c = 0; c < cols; c++)
            {
                const struct sur_quant_group *q = x[c] + first + g;
                segment[c] = FMA(sw * splat(q->scale), to_float(sum[c] - 32 * q->sum[h]), segment[c]);
            }
        }
        return;
    }
    vf sw = d;
    if (type == SUR_WEIGHT_Q8_0)
        sw = LOAD_FP16(block + 2 * (g * SUR_TILE_ROWS + p * LANES));
    else
        sw = d * to_float(LOAD_U8(scales + g * SUR_TILE_ROWS));
    if (type == SUR_WEIGHT_Q4_K) {
        sum_nibbles(sum, groups + g * SUR_NIBBLE_GROUP_BYTES, x, first + g, p, cols);
    } else {
        const bool q8 = type == SUR_WEIGHT_Q8_0;
        const uint8_t *group = (q8 ? block + SUR_PACKED_Q8_GROUPS : groups) + g * SUR_BYTE_GROUP_BYTES;
        sum_bytes(sum, group, x, first + g, 0, p, cols, q8 && SIGNED_BYTES);
        sum_bytes(half, group, x, first + g, 1, p, cols, q8 && SIGNED_BYTES);
        UNROLL for (int c = 0; c < cols; c++)
        {
            const struct sur_quant_group *q = x[c] + first + g;
            sum[c] += half[c] - (q8 && !SIGNED_BYTES ? 128 * (q->sum[0] + q->sum[1]) : 0);
        }
    }
    UNROLL for (int c = 0; c < cols; c++) segment[c] =
        FMA(sw * splat(x[c][first + g].scale), to_float(sum[c]), segment[c]);
    if (type == SUR_WEIGHT_Q8_0) return;
    vf mw = -(dmin * to_float(LOAD_U8(scales + SUR_PACKED_MINIMA - SUR_PACKED_SCALES + g * SUR_TILE_ROWS)));
    UNROLL for (int c = 0; c < cols; c++)
    {
        const struct sur_quant_group *q = x[c] + first + g;
        segment[c] = FMA(mw * splat(q->scale), splat(q->total), segment[c]);
    }
}

/* With several columns the arithmetic per line of weights takes so long that the processor's own prefetching stops too
 * early. With one column it keeps up on AMD's processors, where prefetching halves the speed; on Intel's it does not
 * (docs/benchmarks.md). */
INLINE void prefetch_group(const enum sur_weight_type type, const uint8_t *block, int g)
{
    const int bytes = (int)sur_packed_block_bytes(type) / SUR_BLOCK_GROUPS;
    UNROLL for (int i = 0; i < (bytes + 63) / 64; i++)
        __builtin_prefetch(block + g * bytes + PREFETCH_BYTES + 64 * i, 0, 3);
}

/* Rows of a tile with `cols` columns: sums [part][column]. A block is a segment. */
INLINE void tile_sums(vf (*total)[COLUMNS], const enum sur_weight_type type, const uint8_t *block, int n_groups,
                      const struct sur_quant_group *const *x, const int cols, const bool prefetch)
{
    for (int p = 0; p < PARTS; p++) UNROLL for (int c = 0; c < cols; c++) total[p][c] = splat(0);
    for (int first = 0; first < n_groups; first += SUR_BLOCK_GROUPS, block += sur_packed_block_bytes(type)) {
        const int n = n_groups - first < SUR_BLOCK_GROUPS ? n_groups - first : SUR_BLOCK_GROUPS;
        for (int p = 0; p < PARTS; p++) {
            vf segment[COLUMNS], d = splat(0), dmin = d;
            UNROLL for (int c = 0; c < cols; c++) segment[c] = splat(0);
            if (type != SUR_WEIGHT_Q8_0) {
                d = LOAD_FP16(block + 2 * p * LANES);
                dmin = LOAD_FP16(block + SUR_PACKED_DMIN + 2 * p * LANES);
            }
            for (int g = 0; g < n; g++) {
                if (prefetch && p == 0) prefetch_group(type, block, g);
                add_group(segment, type, block, d, dmin, g, x, first, p, cols);
            }
            UNROLL for (int c = 0; c < cols; c++) total[p][c] += segment[c];
        }
    }
}

INLINE void tile(const struct sur_quant_matmul *m, const enum sur_weight_type type, int row, int col, const int cols,
                 const bool prefetch)
{
    const int n_groups = m->w->cols / SUR_GROUP;
    const struct sur_quant_group *x[COLUMNS];
    vf total[PARTS][COLUMNS];
    UNROLL for (int c = 0; c < cols; c++) x[c] = m->x + (size_t)(col + c) * (size_t)n_groups;
    tile_sums(total, type, m->w->data + (size_t)(row / SUR_TILE_ROWS) * m->w->tile_bytes, n_groups, x, cols, prefetch);
    int n = m->w->rows - row < SUR_TILE_ROWS ? m->w->rows - row : SUR_TILE_ROWS;
    UNROLL for (int c = 0; c < cols; c++)
    {
        float *y = m->y + (size_t)(col + c) * m->y_stride + row;
        for (int r = 0; r < n; r++) {
            float sum = total[r / LANES][c][r % LANES];
            if (m->bias) sum += m->bias[row + r];
            y[r] = m->accumulate ? y[r] + sum : sum;
        }
    }
}

/* A function of its own per type and number of columns: one large function would take the compiler minutes. */
#define TILE(name, type, cols, prefetch)                                                                               \
    static __attribute__((noinline)) void name(const struct sur_quant_matmul *m, int row, int col)                     \
    {                                                                                                                  \
        tile(m, type, row, col, cols, prefetch);                                                                       \
    }
#define TILES(name, type)                                                                                              \
    TILE(name##_all, type, COLUMNS, true)                                                                              \
    TILE(name##_two, type, COLUMNS < 2 ? COLUMNS : 2, true)                                                            \
    TILE(name##_one, type, 1, false)                                                                                   \
    TILE(name##_one_prefetch, type, 1, true)
TILES(q4, SUR_WEIGHT_Q4_K)
TILES(q5, SUR_WEIGHT_Q5_K)
TILES(q6, SUR_WEIGHT_Q6_K)
TILES(q8, SUR_WEIGHT_Q8_0)

static void matmul(const struct sur_quant_matmul *m, int row0, int row1)
{
#define FUNCTIONS(name)                                                                                                \
    {                                                                                                                  \
        name##_all, name##_two, name##_one, name##_one_prefetch                                                        \
    }
    typedef void (*tile_fn)(const struct sur_quant_matmul *, int row, int col);
    static const tile_fn fns[SUR_N_WEIGHT_TYPES][4] = {[SUR_WEIGHT_Q4_K] = FUNCTIONS(q4),
                                                       [SUR_WEIGHT_Q5_K] = FUNCTIONS(q5),
                                                       [SUR_WEIGHT_Q6_K] = FUNCTIONS(q6),
                                                       [SUR_WEIGHT_Q8_0] = FUNCTIONS(q8)};
    const tile_fn *run = fns[m->w->type], one = run[PREFETCH_ONE ? 3 : 2];
    /* columns a sweep over the weights: as many as keep half a megabyte of activations in the second-level cache */
    int most = (1 << 17) / m->w->cols / COLUMNS * COLUMNS * 2;
    if (most < 2 * COLUMNS) most = 2 * COLUMNS;
    for (int c0 = 0; c0 < m->n; c0 += most) {
        int c1 = m->n - c0 < most ? m->n : c0 + most;
        for (int row = row0; row < row1; row += SUR_TILE_ROWS) {
            int c = c0;
            for (; c + COLUMNS <= c1; c += COLUMNS) run[0](m, row, c);
            if (COLUMNS > 2 && c + 2 <= c1) run[1](m, row, c), c += 2;
            for (; c < c1; c++) one(m, row, c);
        }
    }
}

const struct sur_quant_ops QUANT_OPS = {QUANT_NAME, quantise, matmul};
