#include "bench/count.h"

#include <stdlib.h>

#include "cpu/packed.h"

uint64_t count_bytes(const struct sur_view *v)
{
    struct sur_packed packed;
    if (!v->data) return 0;
    if (!sur_weight_quantised(v->type)) return (uint64_t)v->rows * v->row_bytes;
    sur_packed_describe(&packed, v->type, v->rows, v->cols);
    return sur_packed_bytes(&packed);
}

uint64_t count_weights(const struct sur_view *v)
{
    return v->data ? (uint64_t)v->rows * (uint64_t)v->cols : 0;
}

uint64_t count_tower(const struct sur_layer *w, int n, uint64_t (*of)(const struct sur_view *))
{
    uint64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += of(&w[i].wq) + of(&w[i].wk) + of(&w[i].wv) + of(&w[i].wo) + of(&w[i].w1) + of(&w[i].w2) + of(&w[i].w3);
    return sum;
}

uint64_t count_kv_bytes(const struct sur_tower *s, int64_t context, enum sur_kv_type kv)
{
    int64_t seen = context < s->window ? context : s->window;
    return (uint64_t)seen * (uint64_t)s->n_layers * (uint64_t)s->n_kv_heads * (uint64_t)s->head_dim * 2 *
           (kv == SUR_KV_FP16 ? 2 : 4);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double count_quantile(double *v, int n, double q)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return v[(int)(q * (n - 1) + 0.5)];
}
