/* A session's keys and values in one tower, in the layout that sur_cpu_ops.attend reads (ops.h). One thread at a time,
 * but several workers may put different heads. */
#ifndef SUR_CPU_RINGS_H
#define SUR_CPU_RINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cpu/ops.h"
#include "model/params.h"
#include "surtitle.h"

struct sur_cpu_rings {
    const struct sur_tower *shape;
    enum sur_kv_type type;
    int n_blocks, v_stride; /* blocks of SUR_KEY_BLOCK positions; head_dim rounded up to 16 */
    char *k, *v;            /* [n_layers][n_kv_heads][n_blocks]: [head_dim][64], [64][v_stride]; fp16 or fp32 */
};

/* more: how many positions must stay readable beside a window. Bytes that init allocates; 0: too many. */
uint64_t sur_cpu_rings_bytes(const struct sur_tower *shape, enum sur_kv_type type, int more);
/* SUR_ERR_MEMORY. rings: zeroed; finish takes it in any case. */
int sur_cpu_rings_init(struct sur_cpu_rings *rings, const struct sur_tower *shape, enum sur_kv_type type, int more);
void sur_cpu_rings_finish(struct sur_cpu_rings *rings);

/* Writes rows row0 .. row1 - 1 (head * head_dim + element) of a layer's keys or values, for n positions from first on:
 * x [n, row1 - row0], position i at x + i * stride. */
void sur_cpu_rings_put(const struct sur_cpu_rings *rings, bool keys, int layer, int64_t first, const float *x,
                       size_t stride, int n, int row0, int row1);
/* Fills the window before position `end` with numbers in +-1 that depend on the position alone: for sessions that do
 * not start at 0. */
void sur_cpu_rings_randomize(const struct sur_cpu_rings *rings, int64_t end);

/* Where a layer's K/V head begins. */
static inline size_t sur_cpu_rings_at(const struct sur_cpu_rings *r, bool keys, int layer, int head)
{
    const size_t width = (size_t)(keys ? r->shape->head_dim : r->v_stride), bytes = r->type == SUR_KV_FP16 ? 2 : 4;
    return ((size_t)layer * (size_t)r->shape->n_kv_heads + (size_t)head) * (size_t)r->n_blocks * SUR_KEY_BLOCK * width *
           bytes;
}

#endif
