#include "cpu/tower.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/gemm.h"
#include "cpu/wide.h"
#include "util/error.h"
#include "util/half.h"

/* Below so many multiply-adds, waking the workers costs more than it saves. */
enum { SMALL_WORK = 1 << 16 };

static void run(const struct sur_cpu_tower *t, int64_t work, sur_pool_fn fn, void *arg)
{
    if (work < SMALL_WORK)
        fn(arg, 0, 1);
    else
        sur_pool_run(t->pool, fn, arg);
}

float *sur_cpu_widen(const struct sur_view *view)
{
    if (!view->data) return NULL;
    float *to = malloc((size_t)view->rows * (size_t)view->cols * sizeof *to);
    if (to) sur_view_widen(view, to);
    return to;
}

/* ---- open, close ---- */

int sur_cpu_tower_open(struct sur_cpu_tower *t, const struct sur_tower *shape, const struct sur_layer *layers,
                       const struct sur_cpu_isa *isa, enum sur_gemm gemm, struct sur_pool *pool)
{
    t->shape = shape;
    t->ops = isa->ops;
    t->matmul = gemm == SUR_GEMM_BLAS ? sur_blas_matmul : isa->ops->matmul;
    t->quant = isa->quant;
    t->pool = pool;
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

struct sizes {
    uint64_t k, v, columns, scratch, groups;
    int n_blocks, v_stride;
};

/* All sizes are below 2^20 (checked when params.json was read), so these products fit in 64 bits but for the rings',
 * which are bounded here. */
static bool stack_sizes(struct sizes *z, const struct sur_tower *s, enum sur_kv_type kv, int max_n, int slack,
                        int threads, size_t more_values)
{
    uint64_t positions = (uint64_t)s->window + (uint64_t)max_n + (uint64_t)slack;
    z->n_blocks = (int)((positions + SUR_KEY_BLOCK - 1) / SUR_KEY_BLOCK);
    z->v_stride = (s->head_dim + 15) / 16 * 16;
    uint64_t heads = (uint64_t)s->n_layers * (uint64_t)s->n_kv_heads * (kv == SUR_KV_FP16 ? 2 : 4);
    z->k = heads * (uint64_t)z->n_blocks * SUR_KEY_BLOCK * (uint64_t)s->head_dim;
    z->v = heads * (uint64_t)z->n_blocks * SUR_KEY_BLOCK * (uint64_t)z->v_stride;
    uint64_t wide = (uint64_t)s->n_heads * (uint64_t)s->head_dim,
             narrow = (uint64_t)s->n_kv_heads * (uint64_t)s->head_dim;
    z->columns = (uint64_t)max_n *
                 ((uint64_t)s->dim + 2 * wide + 2 * narrow + 2 * (uint64_t)s->hidden_dim + (uint64_t)s->head_dim);
    uint64_t widest = wide > (uint64_t)s->hidden_dim ? wide : (uint64_t)s->hidden_dim;
    uint64_t values = (uint64_t)max_n * (widest > (uint64_t)s->dim ? widest : (uint64_t)s->dim);
    z->groups = (values > more_values ? values : more_values) / SUR_GROUP + 1;
    z->scratch = (uint64_t)threads * sur_attend_scratch(max_n * (s->n_heads / s->n_kv_heads), z->v_stride);
    return z->k < UINT64_C(1) << 46 && z->v < UINT64_C(1) << 46;
}

uint64_t sur_cpu_stack_bytes(const struct sur_tower *s, enum sur_kv_type kv, int max_n, int slack, int threads,
                             size_t more_values)
{
    struct sizes z;
    if (!stack_sizes(&z, s, kv, max_n, slack, threads, more_values)) return 0;
    return z.k + z.v + z.groups * sizeof(struct sur_quant_group) +
           4 * (z.columns + z.scratch + (uint64_t)s->n_layers * (uint64_t)s->dim);
}

int sur_cpu_stack_init(struct sur_cpu_stack *k, const struct sur_cpu_tower *tower, enum sur_kv_type kv, int max_n,
                       int slack, size_t more_values)
{
    const struct sur_tower *s = tower->shape;
    struct sizes z;
    int threads = sur_pool_size(tower->pool);
    if (!stack_sizes(&z, s, kv, max_n, slack, threads, more_values))
        return sur_fail(SUR_ERR_MEMORY, "the model's windows are too large");
    size_t n = (size_t)max_n, wide = (size_t)s->n_heads * (size_t)s->head_dim,
           narrow = (size_t)s->n_kv_heads * (size_t)s->head_dim;
    k->tower = tower;
    k->kv = kv;
    k->max_n = max_n;
    k->n_blocks = z.n_blocks;
    k->v_stride = z.v_stride;
    /* The system gives the rings' pages when a step first writes them, so that a short session does not hold the 0.9 GB
     * of a whole window. At the published size that is 26 faults of 1.5 us per step, 40 us of its 80 ms; in the first
     * step of every 64, which begins a block of each head's keys, about 1,000 faults, 1.6 ms. It ends when the ring is
     * full, after 11 minutes. Huge pages would be worse: a head's ring is one of them, and the first step would touch
     * them all. */
    k->k = calloc(z.k, 1);
    k->v = calloc(z.v, 1);
    k->ffn_norms = calloc((size_t)s->n_layers * (size_t)s->dim, sizeof(float));
    k->x = calloc(n * (size_t)s->dim, sizeof(float));
    k->q = calloc(n * wide, sizeof(float));
    k->attended = calloc(n * wide, sizeof(float));
    k->kv_new = calloc(n * narrow * 2, sizeof(float));
    k->gate = calloc(n * (size_t)s->hidden_dim, sizeof(float));
    k->up = calloc(n * (size_t)s->hidden_dim, sizeof(float));
    k->rotation = calloc(n * (size_t)s->head_dim, sizeof(float));
    k->scratch = calloc(z.scratch, sizeof(float));
    k->groups = calloc(z.groups, sizeof *k->groups); /* never touched where nothing is packed */
    if (!k->k || !k->v || !k->ffn_norms || !k->x || !k->q || !k->attended || !k->kv_new || !k->gate || !k->up ||
        !k->rotation || !k->scratch || !k->groups)
        return sur_fail(SUR_ERR_MEMORY, "not enough memory for a session's keys and values");
    for (int i = 0; i < s->n_layers; i++)
        memcpy(k->ffn_norms + (size_t)i * (size_t)s->dim, tower->layers[i].ffn_norm, (size_t)s->dim * sizeof(float));
    return SUR_OK;
}

void sur_cpu_stack_finish(struct sur_cpu_stack *k)
{
    void *all[] = {k->k,      k->v,    k->ffn_norms, k->x,        k->q,       k->attended,
                   k->kv_new, k->gate, k->up,        k->rotation, k->scratch, k->groups};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static inline void put(char *ring, size_t at, float f, enum sur_kv_type kv)
{
    if (kv == SUR_KV_FP16)
        ((uint16_t *)(void *)ring)[at] = sur_f32_to_fp16(f);
    else
        ((float *)(void *)ring)[at] = f;
}

/* ---- one pass ---- */

/* n columns, x [n, cols], for rows row0 .. row1 - 1; of a packed matrix row0 is a multiple of ROWS, and the columns
 * were quantised before. */
static void product(const struct sur_cpu_stack *k, const struct sur_cpu_matrix *w, const float *bias, const float *x,
                    int n, float *y, size_t y_stride, bool accumulate, int row0, int row1)
{
    if (sur_cpu_matrix_packed(w)) {
        struct sur_quant_matmul m = {&w->packed, k->groups, n, y, y_stride, bias, accumulate};
        k->tower->quant->matmul(&m, row0, row1);
        return;
    }
    struct sur_matmul m = {.w = w->view->data,
                           .w_stride = w->view->row_bytes / 2,
                           .k = w->view->cols,
                           .x = x,
                           .x_stride = (size_t)w->view->cols,
                           .n = n,
                           .y = y,
                           .y_stride = y_stride,
                           .bias = bias,
                           .accumulate = accumulate};
    if (w->view->type == SUR_WEIGHT_BF16)
        k->tower->matmul(&m, row0, row1);
    else
        sur_wide_matmul(k->tower->matmul, w->view, &m, row0, row1);
}

enum { ROWS = SUR_TILE_ROWS }; /* of the smallest share of a product */

struct columns {
    struct sur_cpu_stack *k;
    const float *x;
    int cols, n;
};

static void quantise_part(void *arg, int part, int n_parts)
{
    const struct columns *c = arg;
    int g0, g1, n_groups = c->cols / SUR_GROUP * c->n;
    sur_pool_share(n_groups, 8, part, n_parts, &g0, &g1);
    c->k->tower->quant->quantise(c->k->groups + g0, c->x + (size_t)g0 * SUR_GROUP, (g1 - g0) * SUR_GROUP);
}

/* Columns x [n, cols] as packed matrices need them. */
static void quantise(struct sur_cpu_stack *k, const float *x, int cols, int n)
{
    struct columns c = {k, x, cols, n};
    run(k->tower, 4 * (int64_t)cols * n, quantise_part, &c);
}

struct linear {
    struct sur_cpu_stack *k;
    const struct sur_cpu_matrix *w;
    const float *bias, *x;
    float *y;
    int n;
    bool accumulate;
};

static void linear_part(void *arg, int part, int n_parts)
{
    struct linear *l = arg;
    int r0, r1;
    sur_pool_share(l->w->view->rows, ROWS, part, n_parts, &r0, &r1);
    product(l->k, l->w, l->bias, l->x, l->n, l->y, (size_t)l->w->view->rows, l->accumulate, r0, r1);
}

static void linear(struct sur_cpu_stack *k, const struct sur_cpu_matrix *w, const float *bias, const float *x, int n,
                   float *y, bool accumulate)
{
    struct linear l = {k, w, bias, x, y, n, accumulate};
    if (sur_cpu_matrix_packed(w)) quantise(k, x, w->view->cols, n);
    run(k->tower, (int64_t)w->view->rows * w->view->cols * n, linear_part, &l);
}

void sur_cpu_linear(struct sur_cpu_stack *k, const struct sur_cpu_matrix *w, const float *bias, const float *x, int n,
                    float *y)
{
    linear(k, w, bias, x, n, y, false);
}

struct pass { /* what the parts of one layer's regions share */
    struct sur_cpu_stack *k;
    int layer, n;
    int64_t first;
};

/* Rotates the pairs in rows r0 .. r1 - 1 of every column. Shares are even, so pairs are never cut. */
static void rotate(const struct sur_cpu_stack *k, float *x, size_t stride, int n, int r0, int r1)
{
    int d = k->tower->shape->head_dim;
    for (int c = 0; c < n; c++)
        for (int r = r0; r < r1; r += 2) {
            const float *cs = k->rotation + (size_t)c * (size_t)d + (r % d);
            float *p = x + (size_t)c * stride + r, a = p[0], b = p[1];
            p[0] = a * cs[0] - b * cs[1];
            p[1] = a * cs[1] + b * cs[0];
        }
}

/* Appends rows r0 .. r1 - 1 of the new keys (transposed blocks) or values (row blocks) to this layer's ring. */
static void append(const struct pass *p, char *ring, const float *x, bool keys, int r0, int r1)
{
    const struct sur_cpu_stack *k = p->k;
    const struct sur_tower *s = k->tower->shape;
    size_t d = (size_t)s->head_dim, width = keys ? d : (size_t)k->v_stride,
           head_size = (size_t)k->n_blocks * SUR_KEY_BLOCK * width;
    for (int r = r0, end; r < r1; r = end) { /* a head at a time */
        size_t head = (size_t)r / d, base = ((size_t)p->layer * (size_t)s->n_kv_heads + head) * head_size;
        end = r1 < (int)((head + 1) * d) ? r1 : (int)((head + 1) * d);
        for (int c = 0; c < p->n; c++) {
            int64_t at = p->first + c;
            size_t block = (size_t)(at / SUR_KEY_BLOCK % k->n_blocks), slot = (size_t)(at % SUR_KEY_BLOCK),
                   e = (size_t)r - head * d, to = base + block * SUR_KEY_BLOCK * width;
            const float *from = x + (size_t)c * 2 * (size_t)s->n_kv_heads * d;
            for (int i = r; i < end; i++, e++)
                put(ring, to + (keys ? e * SUR_KEY_BLOCK + slot : slot * width + e), from[i], k->kv);
        }
    }
}

void sur_cpu_stack_randomize(struct sur_cpu_stack *k, int64_t end)
{
    const struct sur_tower *s = k->tower->shape;
    int narrow = s->n_kv_heads * s->head_dim;
    for (int64_t at = end > s->window ? end - s->window : 0; at < end; at++) {
        uint32_t x = (uint32_t)at * 2654435761u;
        for (int layer = 0; layer < s->n_layers; layer++) {
            for (int i = 0; i < 2 * narrow; i++) {
                x = x * 1664525u + 1013904223u;
                k->kv_new[i] = (float)(int32_t)x * 0x1p-31f;
            }
            struct pass p = {k, layer, 1, at};
            append(&p, k->k, k->kv_new, true, 0, narrow);
            append(&p, k->v, k->kv_new + narrow, false, 0, narrow);
        }
    }
}

/* The order of the rows of q and k in memory: packed ones are in the model's order. */
static int halves(const struct sur_cpu_matrix *w)
{
    return sur_cpu_matrix_packed(w) ? 0 : w->view->head_dim_halves;
}

/* How many rows of q or k a share is made of: where they are in halves order, whole heads. */
static int rotary_unit(const struct sur_cpu_matrix *w)
{
    int d = halves(w);
    return !d ? ROWS : d % 4 ? 2 * d : d;
}

/* Rows r0 .. r1 - 1 of q or k, in the model's order whatever the order of the file. The bias comes last, so that the
 * bits are the same for both. */
static void rotary_product(const struct sur_cpu_stack *k, const struct sur_cpu_matrix *w, const float *bias, int n,
                           float *y, size_t y_stride, int r0, int r1)
{
    int d = halves(w);
    product(k, w, d ? NULL : bias, k->x, n, y, y_stride, false, r0, r1);
    for (int c = 0; d && c < n; c++)
        for (int r = r0; r < r1; r += d) {
            float head[SUR_MAX_HEAD_DIM], *to = y + (size_t)c * y_stride + r;
            memcpy(head, to, (size_t)d * sizeof *head);
            for (int i = 0; i < d; i++) to[i] = head[sur_view_place(w->view, i)];
            for (int i = 0; bias && i < d; i++) to[i] += bias[r + i];
        }
    rotate(k, y, y_stride, n, r0, r1);
}

static void qkv_part(void *arg, int part, int n_parts)
{
    const struct pass *p = arg;
    struct sur_cpu_stack *k = p->k;
    const struct sur_cpu_layer *l = &k->tower->layers[p->layer];
    int wide = l->wq.view->rows, narrow = l->wk.view->rows, r0, r1;
    float *key = k->kv_new, *value = k->kv_new + narrow;
    size_t stride = 2 * (size_t)narrow;
    sur_pool_share(wide, rotary_unit(&l->wq), part, n_parts, &r0, &r1);
    rotary_product(k, &l->wq, l->bq, p->n, k->q, (size_t)wide, r0, r1);
    sur_pool_share(narrow, rotary_unit(&l->wk), part, n_parts, &r0, &r1);
    rotary_product(k, &l->wk, NULL, p->n, key, stride, r0, r1);
    append(p, k->k, key, true, r0, r1);
    sur_pool_share(narrow, ROWS, part, n_parts, &r0, &r1);
    product(k, &l->wv, l->bv, k->x, p->n, value, stride, false, r0, r1);
    append(p, k->v, value, false, r0, r1);
}

static void attend_part(void *arg, int part, int n_parts)
{
    const struct pass *p = arg;
    struct sur_cpu_stack *k = p->k;
    const struct sur_tower *s = k->tower->shape;
    int group = s->n_heads / s->n_kv_heads, h0, h1;
    size_t bytes = k->kv == SUR_KV_FP16 ? 2 : 4, positions = (size_t)k->n_blocks * SUR_KEY_BLOCK,
           wide = (size_t)s->n_heads * (size_t)s->head_dim;
    sur_pool_share(s->n_kv_heads, 1, part, n_parts, &h0, &h1);
    for (int h = h0; h < h1; h++) {
        size_t head = (size_t)p->layer * (size_t)s->n_kv_heads + (size_t)h,
               at = (size_t)h * (size_t)group * (size_t)s->head_dim;
        struct sur_attend a = {
            .k = k->k + head * positions * (size_t)s->head_dim * bytes,
            .v = k->v + head * positions * (size_t)k->v_stride * bytes,
            .type = k->kv,
            .n_blocks = k->n_blocks,
            .head_dim = s->head_dim,
            .v_stride = k->v_stride,
            .q = k->q + at,
            .q_stride = wide,
            .out = k->attended + at,
            .out_stride = wide,
            .group = group,
            .n_queries = p->n,
            .window = s->window,
            .first = p->first,
            .scale = (float)(1.0 / sqrt(s->head_dim)),
            .scratch = k->scratch + (size_t)part * sur_attend_scratch(k->max_n * group, k->v_stride),
        };
        k->tower->ops->attend(&a);
    }
}

static void gate_part(void *arg, int part, int n_parts)
{
    const struct pass *p = arg;
    struct sur_cpu_stack *k = p->k;
    const struct sur_cpu_layer *l = &k->tower->layers[p->layer];
    const struct sur_cpu_ops *ops = k->tower->ops;
    size_t hidden = (size_t)l->w1.view->rows;
    int r0, r1;
    sur_pool_share(l->w1.view->rows, ROWS, part, n_parts, &r0, &r1);
    product(k, &l->w1, NULL, k->x, p->n, k->gate, hidden, false, r0, r1);
    product(k, &l->w3, NULL, k->x, p->n, k->up, hidden, false, r0, r1);
    for (int c = 0; c < p->n; c++)
        ops->silu_mul(k->gate + (size_t)c * hidden + r0, k->up + (size_t)c * hidden + r0, (size_t)(r1 - r0));
}

static void norm(const struct sur_cpu_stack *k, const float *h, const float *w, int n)
{
    const struct sur_tower *s = k->tower->shape;
    for (int c = 0; c < n; c++)
        k->tower->ops->rmsnorm(k->x + (size_t)c * (size_t)s->dim, h + (size_t)c * (size_t)s->dim, w, s->dim,
                               (float)s->norm_eps);
}

static bool any_packed(const struct sur_cpu_matrix *a, const struct sur_cpu_matrix *b, const struct sur_cpu_matrix *c)
{
    return sur_cpu_matrix_packed(a) || sur_cpu_matrix_packed(b) || sur_cpu_matrix_packed(c);
}

void sur_cpu_stack_run(struct sur_cpu_stack *k, float *h, int n, int64_t first)
{
    const struct sur_cpu_tower *t = k->tower;
    const struct sur_tower *s = t->shape;
    /* Positions grow for ever: the angle is formed in double from the 64-bit position. */
    for (int c = 0; c < n; c++)
        for (int j = 0; j < s->head_dim / 2; j++) {
            double angle = (double)(first + c) * (double)t->inv[j];
            k->rotation[(size_t)c * (size_t)s->head_dim + 2 * (size_t)j] = (float)cos(angle);
            k->rotation[(size_t)c * (size_t)s->head_dim + 2 * (size_t)j + 1] = (float)sin(angle);
        }
    for (int i = 0; i < s->n_layers; i++) {
        const struct sur_cpu_layer *l = &t->layers[i];
        struct pass p = {k, i, n, first};
        int64_t wide = (int64_t)s->n_heads * s->head_dim, narrow = (int64_t)s->n_kv_heads * s->head_dim;
        int64_t keys = s->window < first + n ? s->window : first + n;
        norm(k, h, l->attention_norm, n);
        if (any_packed(&l->wq, &l->wk, &l->wv)) quantise(k, k->x, s->dim, n);
        run(t, (wide + 2 * narrow) * s->dim * n, qkv_part, &p);
        run(t, 2 * wide * keys * n, attend_part, &p);
        linear(k, &l->wo, l->bo, k->attended, n, h, true);
        norm(k, h, k->ffn_norms + (size_t)i * (size_t)s->dim, n);
        if (any_packed(&l->w1, &l->w3, &l->w3)) quantise(k, k->x, s->dim, n);
        run(t, (int64_t)2 * s->hidden_dim * s->dim * n, gate_part, &p);
        linear(k, &l->w2, l->b2, k->gate, n, h, true);
    }
}
