/* Products of quantised weights and fp32 activations, in integers: the same bits on every processor.
 *
 * A column of activations is divided into groups of 32. A group has a scale s = max|x| / 32512 and 16-bit integers
 * x = s q, q = round to nearest even (x * (32512 / max|x|)), stored as q or as two int8 halves q = 256 high + low. With
 * the integer weights w of a row and their scale sw (and minimum mw: the weight is sw w - mw), a group's sum
 * G = sum of w q and S = sum of q are exact in int32, and
 *
 *   segment = fma(sw s, (float)G, segment);  segment = fma(-(mw s), (float)S, segment)   (the second for types with mw)
 *
 * in fp32, groups ascending; Q6_K has one scale per 16 columns and adds the two halves of a group one after the other.
 * 8 groups (256 columns, a block of packed.h) make a segment, which starts at 0; segments are added in ascending order.
 * Integer sums do not depend on their order, and the order of the rest depends on k alone, so every table below gives
 * the same bits for any number of columns and threads. A group with a NaN or an infinity has the scale NaN, which makes
 * every result NaN; a group whose largest value is below 2^-100 counts as zeros.
 *
 * Thread-safety: pure functions. */
#ifndef SUR_CPU_QUANT_H
#define SUR_CPU_QUANT_H

#include "cpu/ops.h"
#include "cpu/packed.h"

/* One group of a column. Each table has its own order of the integers, so only the table that wrote a group can read
 * it. */
struct sur_quant_group {
    union {
        struct {
            int8_t high[SUR_GROUP], low[SUR_GROUP];
        };
        int16_t q[SUR_GROUP];
    };
    int32_t sum[2]; /* of columns 0 to 15 and 16 to 31 */
    float scale, total; /* total: both sums */
};

struct sur_quant_matmul {
    const struct sur_packed *w;
    const struct sur_quant_group *x; /* [n][w->cols / 32] */
    int n;
    float *y; /* [n, rows], y[c * y_stride + r] */
    size_t y_stride;
    const float *bias; /* [rows] or NULL */
    bool accumulate;   /* y += instead of y = */
};

struct sur_quant_ops {
    const char *name;
    void (*quantise)(struct sur_quant_group *to, const float *x, int k); /* k: a multiple of 32 */
    /* Rows row0 .. row1 - 1; row0 is a multiple of 16. */
    void (*matmul)(const struct sur_quant_matmul *m, int row0, int row1);
};

extern const struct sur_quant_ops sur_quant_plain, sur_quant_avx2, sur_quant_avx_vnni, sur_quant_avx512, sur_quant_neon;

#endif
