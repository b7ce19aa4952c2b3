/* A view of a matrix of weights in a mapped file. Immutable.
 *
 * Thread-safety: any thread may read. */
#ifndef SUR_MODEL_VIEW_H
#define SUR_MODEL_VIEW_H

#include <stddef.h>

#include "model/blocks.h"

struct sur_view { /* [rows, cols]; a vector is one row */
    enum sur_weight_type type;
    int rows, cols;
    size_t row_bytes;
    const void *data; /* at an even address; NULL: the model has no such matrix */
    /* 0: row r is at data + r * row_bytes. Otherwise d, the number of rows per head (of a vector: columns): the rows 2
     * i and 2 i + 1 of a head, which rotary positions rotate together, are at i and i + d / 2. */
    int head_dim_halves;
};

/* Returns the place, counted from the start in rows, of row r of the model (of a vector: column r). */
static inline int sur_view_place(const struct sur_view *view, int r)
{
    int d = view->head_dim_halves;
    return d ? r / d * d + r % d / 2 + r % 2 * (d / 2) : r;
}

/* Returns row r of the model. */
static inline const void *sur_view_row(const struct sur_view *view, int r)
{
    return (const char *)view->data + (size_t)(view->rows == 1 ? 0 : sur_view_place(view, r)) * view->row_bytes;
}

/* Converts all of it to fp32 in the model's order, out [rows, cols]. Vectors must be of F32, F16 or BF16. */
void sur_view_widen(const struct sur_view *view, float *out);

#endif
