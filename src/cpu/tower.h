/* A stack of transformer layers on the CPU: the encoder's and the decoder's, which differ in biases, head grouping and
 * the norm folded for the delay only. */
#ifndef SUR_CPU_TOWER_H
#define SUR_CPU_TOWER_H

#include <stddef.h>
#include <stdint.h>

#include "cpu/isa.h"
#include "cpu/matrix.h"
#include "cpu/pool.h"
#include "model/checkpoint.h"

/* Immutable after open. The small vectors are widened to fp32 once. */
struct sur_cpu_layer {
    struct sur_cpu_matrix wq, wk, wv, wo, w1, w2, w3, ada0, ada2; /* ada: decoder only, else view->data NULL */
    float *attention_norm, *ffn_norm;                             /* [dim] */
    float *bq, *bv, *bo, *b2;                                     /* [rows] or NULL */
};

struct sur_cpu_tower {
    const struct sur_tower *shape;
    struct sur_cpu_layer *layers; /* [n_layers] */
    float *inv;                   /* [head_dim / 2] rotary frequencies */
    const struct sur_cpu_ops *ops;
    void (*matmul)(const struct sur_matmul *m, int row0, int row1); /* ops's, or the yardstick's */
    const struct sur_quant_ops *quant;                              /* products of packed matrices */
    struct sur_pool *pool;
};

/* The matrices are still to be packed (sur_cpu_arena_pack) before a session is made. */
int sur_cpu_tower_open(struct sur_cpu_tower *tower, const struct sur_tower *shape, const struct sur_layer *layers,
                       const struct sur_cpu_isa *isa, enum sur_gemm gemm, struct sur_pool *pool);
void sur_cpu_tower_close(struct sur_cpu_tower *tower);

/* A session's side of a tower: K/V rings and room for a pass. One thread at a time. */
struct sur_cpu_stack {
    const struct sur_cpu_tower *tower;
    enum sur_kv_type kv;
    int max_n, n_blocks, v_stride;  /* columns a pass; blocks of 64 positions in a ring */
    char *k, *v;                    /* [n_layers][n_kv_heads][n_blocks]: [head_dim][64], [64][v_stride]; fp16, fp32 */
    float *ffn_norms;               /* [n_layers, dim]; folded for the delay in a decoder */
    float *x;                       /* [max_n, dim] normed */
    float *q, *attended;            /* [max_n, n_heads * head_dim] */
    float *kv_new;                  /* [max_n, 2, n_kv_heads * head_dim] */
    float *gate, *up;               /* [max_n, hidden] */
    float *rotation;                /* [max_n, head_dim / 2, {cos, sin}] */
    float *scratch;                 /* [threads][sur_attend_scratch] */
    struct sur_quant_group *groups; /* the columns of a product with a packed matrix */
};

/* window + slack + max_n positions must stay readable. more_values: how many values the columns of one sur_cpu_linear
 * call may have, where that is more than a pass's own. Bytes that init will allocate, or 0 on overflow: */
uint64_t sur_cpu_stack_bytes(const struct sur_tower *shape, enum sur_kv_type kv, int max_n, int slack, int threads,
                             size_t more_values);
int sur_cpu_stack_init(struct sur_cpu_stack *stack, const struct sur_cpu_tower *tower, enum sur_kv_type kv, int max_n,
                       int slack, size_t more_values);
void sur_cpu_stack_finish(struct sur_cpu_stack *stack);

/* Fills the rings for the window before position `end` with numbers in +-1 that depend on the position alone: for
 * sessions that start far out. */
void sur_cpu_stack_randomize(struct sur_cpu_stack *stack, int64_t end);

/* Runs all layers over n columns at positions first .. first + n - 1, h [n, dim] in place (final norm not included). */
void sur_cpu_stack_run(struct sur_cpu_stack *stack, float *h, int n, int64_t first);

/* y [n, rows] = w x (+ bias), x [n, cols]; all workers when it is worth it. The stack gives room for the columns. */
void sur_cpu_linear(struct sur_cpu_stack *stack, const struct sur_cpu_matrix *w, const float *bias, const float *x,
                    int n, float *y);
/* A vector view as fp32, allocated; NULL without data or memory. */
float *sur_cpu_widen(const struct sur_view *view);

#endif
