#include "cpu/product.h"

#include <math.h>
#include <string.h>

#include "util/half.h"

void sur_cpu_share(struct sur_pool *pool, int64_t work, sur_pool_fn fn, void *arg)
{
    enum { SMALL_WORK = 1 << 16 };
    if (work < SMALL_WORK)
        fn(arg, 0, 1);
    else
        sur_pool_run(pool, fn, arg);
}

typedef void (*product_fn)(const struct sur_cpu_products *t, const struct sur_cpu_product *p, int row0, int row1);

static struct sur_matmul matmul_of(const struct sur_cpu_product *p)
{
    const struct sur_view *v = p->w->view;
    return (struct sur_matmul){.w = v->data,
                               .w_stride = v->row_bytes / 2,
                               .k = v->cols,
                               .x = p->x,
                               .x_stride = (size_t)v->cols,
                               .n = p->n,
                               .y = p->y,
                               .y_stride = p->y_stride,
                               .bias = p->bias,
                               .accumulate = p->accumulate};
}

static void bf16_rows(const struct sur_cpu_products *t, const struct sur_cpu_product *p, int row0, int row1)
{
    struct sur_matmul m = matmul_of(p);
    t->matmul(&m, row0, row1);
}

static void packed_rows(const struct sur_cpu_products *t, const struct sur_cpu_product *p, int row0, int row1)
{
    struct sur_quant_matmul m = {&p->w->packed, p->groups, p->n, p->y, p->y_stride, p->bias, p->accumulate};
    t->quant->matmul(&m, row0, row1);
}

/* ---- F16 and F32 ----
 * Only matrices with values that bf16 does not hold reach this code: a checkpoint converts all others to BF16. A weight
 * is the sum of two or three bf16 numbers, so as many products of bf16 make one. Such files are rare; these products
 * are correct rather than fast. */

enum { CHUNK = 1024, PIECES = 3 };

/* The upper half of a number's bits: the bf16 number that lies towards zero. The remainder fits the pieces that follow:
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

static void float_rows(const struct sur_cpu_products *t, const struct sur_cpu_product *product, int row0, int row1)
{
    const struct sur_view *w = product->w->view;
    const struct sur_matmul m = matmul_of(product);
    const int n_pieces = w->type == SUR_WEIGHT_F16 ? 2 : PIECES;
    uint16_t pieces[PIECES][CHUNK];
    float values[CHUNK];
    for (int r = row0; r < row1; r++) {
        const char *row = (const char *)w->data + (size_t)r * w->row_bytes;
        for (int k = 0; k < m.k; k += CHUNK) {
            int n = m.k - k < CHUNK ? m.k - k : CHUNK;
            sur_dequantise_row(w->type, row + sur_row_bytes(w->type, k), n, values);
            split(values, n, pieces);
            for (int p = 0; p < n_pieces; p++) {
                bool first = k == 0 && p == 0;
                struct sur_matmul part = m;
                part.w = pieces[p];
                part.w_stride = (size_t)n;
                part.k = n;
                part.x = m.x + k;
                part.y = m.y + r;
                part.bias = first && m.bias ? m.bias + r : NULL;
                part.accumulate = !first || m.accumulate;
                t->matmul(&part, 0, 1);
            }
        }
    }
}

/* ---- any type ---- */

void sur_cpu_product_rows(const struct sur_cpu_products *t, const struct sur_cpu_product *p, int row0, int row1)
{
    static const product_fn by_type[SUR_N_WEIGHT_TYPES] = {
        [SUR_WEIGHT_BF16] = bf16_rows,   [SUR_WEIGHT_F16] = float_rows,   [SUR_WEIGHT_F32] = float_rows,
        [SUR_WEIGHT_Q8_0] = packed_rows, [SUR_WEIGHT_Q6_K] = packed_rows, [SUR_WEIGHT_Q5_K] = packed_rows,
        [SUR_WEIGHT_Q4_K] = packed_rows};
    by_type[p->w->view->type](t, p, row0, row1);
}

struct job {
    const struct sur_cpu_products *products;
    const struct sur_cpu_product *product;
};

static void quantise_part(void *arg, int part, int n_parts)
{
    const struct job *j = arg;
    const struct sur_cpu_product *p = j->product;
    int g0, g1;
    sur_pool_share(p->w->view->cols / SUR_GROUP * p->n, 8, part, n_parts, &g0, &g1);
    j->products->quant->quantise(p->groups + g0, p->x + (size_t)g0 * SUR_GROUP, (g1 - g0) * SUR_GROUP);
}

void sur_cpu_product_quantise(const struct sur_cpu_products *t, const struct sur_cpu_product *p)
{
    struct job j = {t, p};
    sur_cpu_share(t->pool, 4 * (int64_t)p->w->view->cols * p->n, quantise_part, &j);
}

static void rows_part(void *arg, int part, int n_parts)
{
    const struct job *j = arg;
    int r0, r1;
    sur_pool_share(j->product->w->view->rows, SUR_TILE_ROWS, part, n_parts, &r0, &r1);
    sur_cpu_product_rows(j->products, j->product, r0, r1);
}

void sur_cpu_product_run(const struct sur_cpu_products *t, const struct sur_cpu_product *p)
{
    const struct sur_view *v = p->w->view;
    struct job j = {t, p};
    if (sur_cpu_matrix_packed(p->w)) sur_cpu_product_quantise(t, p);
    sur_cpu_share(t->pool, (int64_t)v->rows * v->cols * p->n, rows_part, &j);
}
