/* The fast operations of the CPU backend: one table per instruction set (ops_body.h compiled several times).
 *
 * Order of summation: a dot product over k runs in 16 lanes; lane l adds k = l, l + 16, ... ascending, then the lanes
 * are folded 8, 4, 2, 1. No result depends on how many columns, rows or queries a call has. Tables differ from one
 * another in the last bits (fused multiply-add or not), so a model uses one.
 *
 * Thread-safety: pure functions. Buffers need no alignment and must not overlap unless a comment allows it.
 * The plain reference of each is sur_ref_<op> in tests/unit/ref_ops.h. */
#ifndef SUR_CPU_OPS_H
#define SUR_CPU_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "surtitle.h"

enum { SUR_KEY_BLOCK = 64 }; /* attention takes keys in blocks that start at positions divisible by this */

struct sur_matmul {
    const uint16_t *w;   /* [rows, k] bf16, row r at w + r * w_stride */
    size_t w_stride;     /* elements */
    int k;
    const float *x;      /* [n, k], column c at x + c * x_stride */
    size_t x_stride;
    int n;
    float *y;            /* [n, rows], y[c * y_stride + r] */
    size_t y_stride;
    const float *bias;   /* [rows] or NULL */
    bool accumulate;     /* y += instead of y = */
};

/* One K/V head and its `group` query heads, for n_queries consecutive positions. The rings hold blocks of 64 keys:
 * K transposed, [block][head_dim][64]; V [block][64][v_stride]; fp16 or fp32; position p lies in block
 * (p / 64) % n_blocks. */
struct sur_attend {
    const void *k, *v;      /* this head's rings */
    enum sur_kv_type type;
    int n_blocks, head_dim, v_stride; /* v_stride: head_dim rounded up to 16, the rest zeros */
    const float *q;         /* [n_queries, ..., group * head_dim]: query i, head g at q + i * q_stride + g * head_dim */
    size_t q_stride;
    float *out;             /* as q, with out_stride */
    size_t out_stride;
    int group, n_queries, window;
    int64_t first;          /* position of query 0 */
    float scale;
    float *scratch;         /* [sur_attend_scratch(...)] of this thread */
};

struct sur_cpu_ops {
    const char *name;
    void (*matmul)(const struct sur_matmul *m, int row0, int row1); /* rows row0 .. row1 - 1 */
    void (*rmsnorm)(float *y, const float *x, const float *w, int n, float eps); /* y may be x */
    void (*gelu)(float *x, size_t n);                               /* erf form, in place */
    void (*silu_mul)(float *gate, const float *up, size_t n);       /* gate = silu(gate) * up */
    void (*attend)(const struct sur_attend *a);
};

/* Returns v_stride of sur_attend. */
static inline int sur_attend_v_stride(int head_dim)
{
    return (head_dim + 15) / 16 * 16;
}

/* Returns the floats of scratch that attend needs; n_rows = n_queries * group. */
static inline size_t sur_attend_scratch(int n_rows, int v_stride)
{
    return (size_t)n_rows * ((size_t)v_stride * 2 + 4) + 4 * (SUR_KEY_BLOCK + (size_t)v_stride) + 64;
}

extern const struct sur_cpu_ops sur_ops_plain, sur_ops_avx2, sur_ops_avx512;

#endif
