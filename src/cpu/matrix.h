/* The model's matrices as the CPU backend multiplies by them: BF16, F16 and F32 where the file has them, quantised
 * types packed into memory of their own (packed.h). */
#ifndef SUR_CPU_MATRIX_H
#define SUR_CPU_MATRIX_H

#include "cpu/packed.h"
#include "cpu/pool.h"
#include "model/view.h"

/* Immutable once packed. */
struct sur_cpu_matrix {
    const struct sur_view *view;
    struct sur_packed packed; /* data NULL: the weights are not quantised, and lie at view->data */
};

static inline bool sur_cpu_matrix_packed(const struct sur_cpu_matrix *m)
{
    return m->packed.data != NULL;
}

/* Row r as floats, out [view->cols]. */
void sur_cpu_matrix_row(const struct sur_cpu_matrix *m, int r, float *out);

/* The memory of all packed matrices. */
struct sur_cpu_arena {
    void *memory;
    size_t n_bytes;
};

/* Packs those of the n matrices that are quantised, by all workers, and lets go of the file's pages behind them.
 * SUR_ERR_BACKEND: the machine has less memory. SUR_ERR_MEMORY: the system does not give it. */
int sur_cpu_arena_pack(struct sur_cpu_arena *arena, struct sur_cpu_matrix *const *matrices, int n,
                       struct sur_pool *pool);
void sur_cpu_arena_finish(struct sur_cpu_arena *arena); /* takes a zeroed one */

#endif
