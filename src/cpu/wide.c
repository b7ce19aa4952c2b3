#include "cpu/wide.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 1024, PIECES = 3 };

/* The upper half of a number's bits: the bf16 number that lies towards zero. What is left fits the pieces that follow:
 * 24 bits of F32 are three times 8, 11 of F16 twice. */
static uint16_t upper(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static void split(const float *values, int n, uint16_t (*pieces)[CHUNK])
{
    for (int i = 0; i < n; i++) {
        float left = values[i];
        for (int p = 0; p < PIECES; p++) {
            pieces[p][i] = upper(left);
            left = isfinite(left) ? left - sur_bf16_to_f32(pieces[p][i]) : 0;
        }
    }
}

void sur_wide_matmul(void (*matmul)(const struct sur_matmul *m, int row0, int row1), const struct sur_view *w,
                     const struct sur_matmul *m, int row0, int row1)
{
    uint16_t pieces[PIECES][CHUNK];
    float values[CHUNK];
    int n_pieces = w->type == SUR_WEIGHT_F16 ? 2 : PIECES;
    for (int r = row0; r < row1; r++) {
        const char *row = (const char *)w->data + (size_t)r * w->row_bytes;
        for (int k = 0; k < m->k; k += CHUNK) {
            int n = m->k - k < CHUNK ? m->k - k : CHUNK;
            sur_dequantise_row(w->type, row + sur_row_bytes(w->type, k), n, values);
            split(values, n, pieces);
            for (int p = 0; p < n_pieces; p++) {
                bool first = k == 0 && p == 0;
                struct sur_matmul part = *m;
                part.w = pieces[p];
                part.w_stride = (size_t)n;
                part.k = n;
                part.x = m->x + k;
                part.y = m->y + r;
                part.bias = first && m->bias ? m->bias + r : NULL;
                part.accumulate = !first || m->accumulate;
                matmul(&part, 0, 1);
            }
        }
    }
}
