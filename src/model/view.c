#include "model/view.h"

void sur_view_widen(const struct sur_view *view, float *out)
{
    if (view->rows > 1 || !view->head_dim_halves) {
        for (int r = 0; r < view->rows; r++, out += view->cols)
            sur_dequantise_row(view->type, sur_view_row(view, r), view->cols, out);
        return;
    }
    for (int c = 0; c < view->cols; c++) /* a vector in halves order, whose types have blocks of one value */
        sur_dequantise_row(view->type,
                           (const char *)view->data + (size_t)sur_view_place(view, c) * sur_block_bytes(view->type), 1,
                           out + c);
}
