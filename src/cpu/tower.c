#include "cpu/tower.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/buffers.h"
#include "util/error.h"

float *sur_cpu_widen(const struct sur_view *view)
{
    if (!view->data) return NULL;
    float *to = malloc((size_t)view->rows * (size_t)view->cols * sizeof *to);
    if (to) sur_view_widen(view, to);
    return to;
}

/* ---- open, close ---- */

int sur_cpu_tower_open(struct sur_cpu_tower *t, const struct sur_tower *shape, const struct sur_layer *layers,
                       const struct sur_cpu_ops *ops, const struct sur_cpu_products *products)
{
    t->shape = shape;
    t->ops = ops;
    t->products = products;
    t->layers = calloc((size_t)shape->n_layers, sizeof *t->layers);
    t->inv = calloc((size_t)shape->head_dim / 2, sizeof *t->inv);
    if (!t->layers || !t->inv) goto memory;
    for (int j = 0; j < shape->head_dim / 2; j++) t->inv[j] = (float)pow(shape->rope_theta, -2.0 * j / shape->head_dim);
    for (int i = 0; i < shape->n_layers; i++) {
        struct sur_cpu_layer *l = &t->layers[i];
        const struct sur_layer *w = &layers[i];
        l->wq.view = &w->wq;
        l->wk.view = &w->wk;
        l->wv.view = &w->wv;
        l->wo.view = &w->wo;
        l->w1.view = &w->w1;
        l->w2.view = &w->w2;
        l->w3.view = &w->w3;
        l->ada0.view = &w->ada0;
        l->ada2.view = &w->ada2;
        l->attention_norm = sur_cpu_widen(&w->attention_norm);
        l->ffn_norm = sur_cpu_widen(&w->ffn_norm);
        l->bq = sur_cpu_widen(&w->bq);
        l->bv = sur_cpu_widen(&w->bv);
        l->bo = sur_cpu_widen(&w->bo);
        l->b2 = sur_cpu_widen(&w->b2);
        if (!l->attention_norm || !l->ffn_norm || (w->bq.data && !l->bq) || (w->bv.data && !l->bv) ||
            (w->bo.data && !l->bo) || (w->b2.data && !l->b2))
            goto memory;
    }
    return SUR_OK;
memory:
    return sur_fail(SUR_ERR_MEMORY, "not enough memory for the model's vectors");
}

void sur_cpu_tower_close(struct sur_cpu_tower *t)
{
    for (int i = 0; t->layers && i < t->shape->n_layers; i++) {
        struct sur_cpu_layer *l = &t->layers[i];
        free(l->attention_norm);
        free(l->ffn_norm);
        free(l->bq);
        free(l->bv);
        free(l->bo);
        free(l->b2);
    }
    free(t->layers);
    free(t->inv);
}

/* ---- workspace ---- */

enum { N_BUFFERS = 8 };

/* Sizes are below 2^20 (params.c), so that no product here passes 64 bits. */
static void list_buffers(struct sur_cpu_buffer list[N_BUFFERS], struct sur_cpu_workspace *w, const struct sur_tower *s,
                         int max_n, int threads)
{
    const uint64_t n = (uint64_t)max_n, dim = (uint64_t)s->dim, hidden = (uint64_t)s->hidden_dim,
                   d = (uint64_t)s->head_dim, q_dim = (uint64_t)s->n_heads * d, kv_dim = (uint64_t)s->n_kv_heads * d;
    const size_t scratch = sur_attend_scratch(max_n * (s->n_heads / s->n_kv_heads), sur_attend_v_stride(s->head_dim));
    const struct sur_cpu_buffer all[N_BUFFERS] = {
        {&w->x, n * dim},          {&w->q, n * q_dim},
        {&w->attended, n * q_dim}, {&w->kv_new, n * 2 * kv_dim},
        {&w->gate, n * hidden},    {&w->up, n * hidden},
        {&w->rotation, n * d},     {&w->scratch, (uint64_t)threads * scratch}};
    memcpy(list, all, sizeof all);
}

static uint64_t count_groups(const struct sur_tower *s, int max_n, size_t more_values)
{
    uint64_t q_dim = (uint64_t)s->n_heads * (uint64_t)s->head_dim, widest = (uint64_t)s->dim;
    if (widest < q_dim) widest = q_dim;
    if (widest < (uint64_t)s->hidden_dim) widest = (uint64_t)s->hidden_dim;
    const uint64_t values = (uint64_t)max_n * widest;
    return (values > more_values ? values : more_values) / SUR_GROUP + 1;
}

uint64_t sur_cpu_workspace_bytes(const struct sur_tower *s, int max_n, int threads, size_t more_values)
{
    struct sur_cpu_workspace w;
    struct sur_cpu_buffer list[N_BUFFERS];
    list_buffers(list, &w, s, max_n, threads);
    return sur_cpu_buffers_bytes(list, N_BUFFERS) +
           count_groups(s, max_n, more_values) * sizeof(struct sur_quant_group);
}

int sur_cpu_workspace_init(struct sur_cpu_workspace *w, const struct sur_tower *s, int max_n, int threads,
                           size_t more_values)
{
    struct sur_cpu_buffer list[N_BUFFERS];
    list_buffers(list, w, s, max_n, threads);
    w->max_n = max_n;
    w->groups = calloc(count_groups(s, max_n, more_values), sizeof *w->groups); /* not touched if nothing is packed */
    if (!sur_cpu_buffers_allocate(list, N_BUFFERS) || !w->groups)
        return sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
    return SUR_OK;
}

void sur_cpu_workspace_finish(struct sur_cpu_workspace *w)
{
    float *all[N_BUFFERS] = {w->x, w->q, w->attended, w->kv_new, w->gate, w->up, w->rotation, w->scratch};
    for (int i = 0; i < N_BUFFERS; i++) free(all[i]);
    free(w->groups);
}

/* ---- one pass ---- */

struct pass { /* what the parts of one layer's regions share */
    const struct sur_cpu_tower *tower;
    const struct sur_cpu_rings *rings;
    struct sur_cpu_workspace *workspace;
    int layer, n;
    int64_t first;
};

/* w times x, which has as many columns as the pass. */
static struct sur_cpu_product product(const struct pass *p, const struct sur_cpu_matrix *w, const float *bias,
                                      const float *x, float *y, size_t y_stride)
{
    return (struct sur_cpu_product){
        .w = w, .bias = bias, .x = x, .n = p->n, .groups = p->workspace->groups, .y = y, .y_stride = y_stride};
}

/* h += w x (+ bias) */
static void add_product(const struct pass *p, const struct sur_cpu_matrix *w, const float *bias, const float *x,
                        float *h)
{
    struct sur_cpu_product m = product(p, w, bias, x, h, (size_t)w->view->rows);
    m.accumulate = true;
    sur_cpu_product_run(p->tower->products, &m);
}

/* Rotates the pairs in rows r0 .. r1 - 1 of every column. Shares are even, so pairs are never cut. */
static void rotate(const struct pass *p, float *x, size_t stride, int r0, int r1)
{
    int d = p->tower->shape->head_dim;
    for (int c = 0; c < p->n; c++)
        for (int r = r0; r < r1; r += 2) {
            const float *cs = p->workspace->rotation + (size_t)c * (size_t)d + (r % d);
            float *pair = x + (size_t)c * stride + r, a = pair[0], b = pair[1];
            pair[0] = a * cs[0] - b * cs[1];
            pair[1] = a * cs[1] + b * cs[0];
        }
}

/* Returns head_dim_halves of q or k in memory: packed rows are in the model's order. */
static int halves(const struct sur_cpu_matrix *w)
{
    return sur_cpu_matrix_packed(w) ? 0 : w->view->head_dim_halves;
}

/* Returns the unit of rows of q or k that workers share out: whole heads where rows are in halves order. */
static int rotary_unit(const struct sur_cpu_matrix *w)
{
    int d = halves(w);
    return !d ? SUR_TILE_ROWS : d % 4 ? 2 * d : d;
}

/* Rows r0 .. r1 - 1 of q or k, in the model's order whatever the order of the file. The bias comes last, so that the
 * bits are the same for both. */
static void rotary_product(const struct pass *p, const struct sur_cpu_matrix *w, const float *bias, float *y,
                           size_t y_stride, int r0, int r1)
{
    int d = halves(w);
    const struct sur_cpu_product m = product(p, w, d ? NULL : bias, p->workspace->x, y, y_stride);
    sur_cpu_product_rows(p->tower->products, &m, r0, r1);
    for (int c = 0; d && c < p->n; c++)
        for (int r = r0; r < r1; r += d) {
            float head[SUR_MAX_HEAD_DIM], *to = y + (size_t)c * y_stride + r;
            memcpy(head, to, (size_t)d * sizeof *head);
            for (int i = 0; i < d; i++) to[i] = head[sur_view_place(w->view, i)];
            for (int i = 0; bias && i < d; i++) to[i] += bias[r + i];
        }
    rotate(p, y, y_stride, r0, r1);
}

static void qkv_part(void *arg, int part, int n_parts)
{
    const struct pass *p = arg;
    struct sur_cpu_workspace *w = p->workspace;
    const struct sur_cpu_layer *l = &p->tower->layers[p->layer];
    int q_dim = l->wq.view->rows, kv_dim = l->wk.view->rows, r0, r1;
    float *key = w->kv_new, *value = w->kv_new + kv_dim;
    size_t stride = 2 * (size_t)kv_dim;
    sur_pool_share(q_dim, rotary_unit(&l->wq), part, n_parts, &r0, &r1);
    rotary_product(p, &l->wq, l->bq, w->q, (size_t)q_dim, r0, r1);
    sur_pool_share(kv_dim, rotary_unit(&l->wk), part, n_parts, &r0, &r1);
    rotary_product(p, &l->wk, NULL, key, stride, r0, r1);
    sur_cpu_rings_put(p->rings, true, p->layer, p->first, key + r0, stride, p->n, r0, r1);
    sur_pool_share(kv_dim, SUR_TILE_ROWS, part, n_parts, &r0, &r1);
    const struct sur_cpu_product m = product(p, &l->wv, l->bv, w->x, value, stride);
    sur_cpu_product_rows(p->tower->products, &m, r0, r1);
    sur_cpu_rings_put(p->rings, false, p->layer, p->first, value + r0, stride, p->n, r0, r1);
}

static void attend_part(void *arg, int part, int n_parts)
{
    const struct pass *p = arg;
    const struct sur_cpu_rings *rings = p->rings;
    struct sur_cpu_workspace *w = p->workspace;
    const struct sur_tower *s = p->tower->shape;
    const int group = s->n_heads / s->n_kv_heads;
    const size_t q_dim = (size_t)s->n_heads * (size_t)s->head_dim;
    int h0, h1;
    sur_pool_share(s->n_kv_heads, 1, part, n_parts, &h0, &h1);
    for (int h = h0; h < h1; h++) {
        size_t at = (size_t)h * (size_t)group * (size_t)s->head_dim;
        struct sur_attend a = {
            .k = rings->k + sur_cpu_rings_at(rings, true, p->layer, h),
            .v = rings->v + sur_cpu_rings_at(rings, false, p->layer, h),
            .type = rings->type,
            .n_blocks = rings->n_blocks,
            .head_dim = s->head_dim,
            .v_stride = rings->v_stride,
            .q = w->q + at,
            .q_stride = q_dim,
            .out = w->attended + at,
            .out_stride = q_dim,
            .group = group,
            .n_queries = p->n,
            .window = s->window,
            .first = p->first,
            .scale = (float)(1.0 / sqrt(s->head_dim)),
            .scratch = w->scratch + (size_t)part * sur_attend_scratch(w->max_n * group, rings->v_stride),
        };
        p->tower->ops->attend(&a);
    }
}

static void gate_part(void *arg, int part, int n_parts)
{
    const struct pass *p = arg;
    struct sur_cpu_workspace *w = p->workspace;
    const struct sur_cpu_layer *l = &p->tower->layers[p->layer];
    size_t hidden = (size_t)l->w1.view->rows;
    const struct sur_cpu_product gate = product(p, &l->w1, NULL, w->x, w->gate, hidden),
                                 up = product(p, &l->w3, NULL, w->x, w->up, hidden);
    int r0, r1;
    sur_pool_share(l->w1.view->rows, SUR_TILE_ROWS, part, n_parts, &r0, &r1);
    sur_cpu_product_rows(p->tower->products, &gate, r0, r1);
    sur_cpu_product_rows(p->tower->products, &up, r0, r1);
    for (int c = 0; c < p->n; c++)
        p->tower->ops->silu_mul(w->gate + (size_t)c * hidden + r0, w->up + (size_t)c * hidden + r0, (size_t)(r1 - r0));
}

static void norm(const struct pass *p, const float *h, const float *weights)
{
    const struct sur_tower *s = p->tower->shape;
    const size_t dim = (size_t)s->dim;
    for (int c = 0; c < p->n; c++)
        p->tower->ops->rmsnorm(p->workspace->x + (size_t)c * dim, h + (size_t)c * dim, weights, s->dim,
                               (float)s->norm_eps);
}

/* Quantises the normed columns once if any of the matrices is packed. */
static void quantise(const struct pass *p, const struct sur_cpu_matrix *const *matrices, int n)
{
    for (int i = 0; i < n; i++) {
        if (!sur_cpu_matrix_packed(matrices[i])) continue;
        const struct sur_cpu_product m = product(p, matrices[i], NULL, p->workspace->x, NULL, 0);
        sur_cpu_product_quantise(p->tower->products, &m);
        return;
    }
}

void sur_cpu_tower_run(const struct sur_cpu_tower *t, const struct sur_cpu_rings *rings, struct sur_cpu_workspace *w,
                       const float *ffn_norms, float *h, int n, int64_t first)
{
    const struct sur_tower *s = t->shape;
    struct sur_pool *pool = t->products->pool;
    const int64_t q_dim = (int64_t)s->n_heads * s->head_dim, kv_dim = (int64_t)s->n_kv_heads * s->head_dim,
                  keys = s->window < first + n ? s->window : first + n;
    /* Positions grow without bound, so the angle is computed in double from the 64-bit position. */
    for (int c = 0; c < n; c++)
        for (int j = 0; j < s->head_dim / 2; j++) {
            double angle = (double)(first + c) * (double)t->inv[j];
            w->rotation[(size_t)c * (size_t)s->head_dim + 2 * (size_t)j] = (float)cos(angle);
            w->rotation[(size_t)c * (size_t)s->head_dim + 2 * (size_t)j + 1] = (float)sin(angle);
        }
    for (int i = 0; i < s->n_layers; i++) {
        const struct sur_cpu_layer *l = &t->layers[i];
        const struct sur_cpu_matrix *const qkv[] = {&l->wq, &l->wk, &l->wv}, *const gate[] = {&l->w1, &l->w3};
        struct pass p = {t, rings, w, i, n, first};
        norm(&p, h, l->attention_norm);
        quantise(&p, qkv, 3);
        sur_cpu_share(pool, (q_dim + 2 * kv_dim) * s->dim * n, qkv_part, &p);
        sur_cpu_share(pool, 2 * q_dim * keys * n, attend_part, &p);
        add_product(&p, &l->wo, l->bo, w->attended, h);
        norm(&p, h, ffn_norms ? ffn_norms + (size_t)i * (size_t)s->dim : l->ffn_norm);
        quantise(&p, gate, 2);
        sur_cpu_share(pool, (int64_t)2 * s->hidden_dim * s->dim * n, gate_part, &p);
        add_product(&p, &l->w2, l->b2, w->gate, h);
    }
}
