/* A matrix of weights where it lies: in a mapped file. Immutable; any thread may read. */
#ifndef SUR_MODEL_VIEW_H
#define SUR_MODEL_VIEW_H

#include <stddef.h>

#include "model/blocks.h"

struct sur_view { /* [rows, cols]; a vector is one row */
    enum sur_weight_type type;
    int rows, cols;
    size_t row_bytes;
    const void *data; /* even address, no other alignment promised */
    /* 0: row r lies at data + r * row_bytes. Else the rows (of a vector: the columns) form heads of so many, and within
     * a head of d those at 2 i and 2 i + 1, which rotary positions turn together, lie at i and i + d / 2. */
    int head_dim_halves;
};

/* Where row (of a vector: column) r of the model lies, in rows from the start. */
static inline int sur_view_place(const struct sur_view *view, int r)
{
    int d = view->head_dim_halves;
    return d ? r / d * d + r % d / 2 + r % 2 * (d / 2) : r;
}

/* Row r of the model. */
static inline const void *sur_view_row(const struct sur_view *view, int r)
{
    return (const char *)view->data + (size_t)(view->rows == 1 ? 0 : sur_view_place(view, r)) * view->row_bytes;
}

/* All of it as fp32 in the model's order, out [rows, cols]. For vectors of F32, F16 and BF16, and matrices of any type.
 */
void sur_view_widen(const struct sur_view *view, float *out);

#endif
