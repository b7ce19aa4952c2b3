/* The matrices that the CPU backend multiplies by: BF16, F16 and F32 stay in the mapped file, quantised types are
 * packed into memory of their own (packed.h). */
#ifndef SUR_CPU_MATRIX_H
#define SUR_CPU_MATRIX_H

#include "cpu/packed.h"
#include "cpu/pool.h"
#include "model/view.h"

/* Immutable once packed. */
struct sur_cpu_matrix {
    const struct sur_view *view;
    struct sur_packed packed; /* data NULL: not quantised; the weights are at view->data */
};

static inline bool sur_cpu_matrix_packed(const struct sur_cpu_matrix *m)
{
    return m->packed.data != NULL;
}

/* Converts row r to fp32, out [view->cols]. */
void sur_cpu_matrix_row(const struct sur_cpu_matrix *m, int r, float *out);

/* The memory of all packed matrices. */
struct sur_cpu_arena {
    void *memory;
    size_t n_bytes;
};

/* Packs the quantised ones of n matrices, by all workers, and releases the pages of the file that it has read.
 * SUR_ERR_BACKEND: the machine has too little free memory. SUR_ERR_MEMORY: the allocation failed. */
int sur_cpu_arena_pack(struct sur_cpu_arena *arena, struct sur_cpu_matrix *const *matrices, int n,
                       struct sur_pool *pool);
void sur_cpu_arena_finish(struct sur_cpu_arena *arena); /* a zeroed arena is allowed */

#endif
