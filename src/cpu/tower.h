/* A tower of transformer layers on the CPU: the encoder's or the decoder's, which differ only in biases, head grouping
 * and the decoder's norms for a delay.
 *
 * Ownership: a tower (weights) belongs to the model, its rings (rings.h) to a session, a workspace to a pass. Passes
 * of different sessions take turns region by region in the pool (pool.h), so each session keeps a workspace of its own
 * per tower: one for the model would make a short pass wait for a whole long one. */
#ifndef SUR_CPU_TOWER_H
#define SUR_CPU_TOWER_H

#include <stddef.h>
#include <stdint.h>

#include "cpu/product.h"
#include "cpu/rings.h"
#include "model/checkpoint.h"

/* Immutable after open. Vectors are widened to fp32 once. */
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
    const struct sur_cpu_products *products;
};

/* ops and products outlive the tower. The caller packs the matrices (sur_cpu_arena_pack) before the first pass. */
int sur_cpu_tower_open(struct sur_cpu_tower *tower, const struct sur_tower *shape, const struct sur_layer *layers,
                       const struct sur_cpu_ops *ops, const struct sur_cpu_products *products);
void sur_cpu_tower_close(struct sur_cpu_tower *tower);

/* Buffers of a pass over up to max_n positions. One pass at a time. */
struct sur_cpu_workspace {
    int max_n;
    float *x;                       /* [max_n, dim] normed */
    float *q, *attended;            /* [max_n, n_heads * head_dim] */
    float *kv_new;                  /* [max_n, 2, n_kv_heads * head_dim] */
    float *gate, *up;               /* [max_n, hidden] */
    float *rotation;                /* [max_n, head_dim / 2, {cos, sin}] */
    float *scratch;                 /* [threads][sur_attend_scratch] */
    struct sur_quant_group *groups; /* the quantised columns of a product */
};

/* more_values: how many values the columns of one product with these groups may have, where that is more than a
 * pass's own products need. Bytes that init allocates: */
uint64_t sur_cpu_workspace_bytes(const struct sur_tower *shape, int max_n, int threads, size_t more_values);
/* SUR_ERR_MEMORY. workspace: zeroed; finish takes it in any case. */
int sur_cpu_workspace_init(struct sur_cpu_workspace *workspace, const struct sur_tower *shape, int max_n, int threads,
                           size_t more_values);
void sur_cpu_workspace_finish(struct sur_cpu_workspace *workspace);

/* Runs all layers over n columns at positions first .. first + n - 1, h [n, dim] in place; the final norm is not
 * included. ffn_norms: [n_layers, dim] instead of the layers' own, or NULL. */
void sur_cpu_tower_run(const struct sur_cpu_tower *tower, const struct sur_cpu_rings *rings,
                       struct sur_cpu_workspace *workspace, const float *ffn_norms, float *h, int n, int64_t first);

/* A vector view as fp32, allocated; NULL without data or memory. */
float *sur_cpu_widen(const struct sur_view *view);

#endif
