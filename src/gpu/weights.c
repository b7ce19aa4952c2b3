#include "gpu/weights.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/upload.h"
#include "util/error.h"
#include "util/log.h"

/* ---- layout ---- */

static size_t take(size_t *at, size_t n_bytes)
{
    size_t here = *at;
    *at = gpu_round_up(here + n_bytes, 256);
    return here;
}

static struct gpu_matrix take_matrix(size_t *at, int rows, int k, bool row_major)
{
    int pitch = (int)gpu_round_up((size_t)k, SUR_GPU_PITCH);
    return (struct gpu_matrix){take(at, gpu_round_up((size_t)rows, 8) * (size_t)pitch * 2), rows, k, pitch, row_major};
}

static size_t take_vector(size_t *at, int n, bool there)
{
    return there ? take(at, (size_t)n * 4) : GPU_NONE;
}

static void plan_layer(struct gpu_layer_plan *p, const struct sur_tower *s, const struct sur_layer *w, bool row_major)
{
    int qkv_rows = (s->n_heads + 2 * s->n_kv_heads) * s->head_dim;
    p->n_bytes = 0;
    p->qkv = take_matrix(&p->n_bytes, qkv_rows, s->dim, row_major);
    p->wo = take_matrix(&p->n_bytes, s->dim, s->n_heads * s->head_dim, row_major);
    p->w1 = take_matrix(&p->n_bytes, s->hidden_dim, s->dim, row_major);
    p->w3 = take_matrix(&p->n_bytes, s->hidden_dim, s->dim, row_major);
    p->w2 = take_matrix(&p->n_bytes, s->dim, s->hidden_dim, row_major);
    p->bias_qkv = take_vector(&p->n_bytes, qkv_rows, w->bq.data || w->bv.data);
    p->bias_o = take_vector(&p->n_bytes, s->dim, w->bo.data);
    p->bias_2 = take_vector(&p->n_bytes, s->dim, w->b2.data);
}

static void plan_others(struct gpu_weights *w, const struct sur_checkpoint *c, bool row_major)
{
    const struct sur_weights *from = &c->weights;
    size_t *at = &w->others_bytes;
    int e = c->params.encoder.dim;
    w->conv0 = take_matrix(at, e, from->conv0.cols, row_major);
    w->conv1 = take_matrix(at, e, from->conv1.cols, row_major);
    w->adapter0 = take_matrix(at, from->adapter0.rows, from->adapter0.cols, row_major);
    w->adapter2 = take_matrix(at, from->adapter2.rows, from->adapter2.cols, row_major);
    w->embedding = take_matrix(at, from->embedding.rows, from->embedding.cols, false);
    w->conv0_bias = take_vector(at, e, true);
    w->conv1_bias = take_vector(at, e, true);
}

/* ---- memory ---- */

/* Sets how many layers of each tower are resident, the decoder's first. False if not even the slots fit. */
static bool choose_resident(struct gpu_weights *w, size_t budget)
{
    struct gpu_tower *towers[] = {&w->decoder, &w->encoder};
    size_t all = 0, slots = 0;
    for (int t = 0; t < 2; t++) {
        all += towers[t]->plan.n_bytes * (size_t)towers[t]->shape->n_layers;
        slots += towers[t]->plan.n_bytes * GPU_SLOTS;
        towers[t]->n_resident = towers[t]->shape->n_layers;
    }
    if (all <= budget) return true;
    if (budget < slots) return false;
    budget -= slots;
    for (int t = 0; t < 2; t++) {
        size_t fit = budget / towers[t]->plan.n_bytes;
        if (fit < (size_t)towers[t]->shape->n_layers) towers[t]->n_resident = (int)fit;
        budget -= (size_t)towers[t]->n_resident * towers[t]->plan.n_bytes;
    }
    return true;
}

static int allocate_tower(struct gpu_tower *t, struct gpu *g)
{
    int n = t->shape->n_layers, r = SUR_OK;
    t->layers = calloc((size_t)n, sizeof *t->layers);
    t->host_layers = calloc((size_t)n, sizeof *t->host_layers);
    if (!t->layers || !t->host_layers) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    for (int i = 0; !r && i < n; i++) {
        void *p = NULL;
        if (i < t->n_resident)
            r = gpu_allocate(g, &t->layers[i], t->plan.n_bytes, false);
        else
            r = gpu_allocate_host(&p, t->plan.n_bytes, true);
        t->host_layers[i] = p;
    }
    for (int i = 0; !r && t->n_resident < n && i < GPU_SLOTS; i++)
        r = gpu_allocate(g, &t->slots[i], t->plan.n_bytes, false);
    if (!r) r = gpu_allocate(g, &t->norms, gpu_norms_bytes(t->shape), false);
    if (!r) r = gpu_allocate(g, &t->inv, (size_t)t->shape->head_dim * 2, false);
    return r;
}

static void free_tower(struct gpu_tower *t, struct gpu *g)
{
    for (int i = 0; t->layers && i < t->shape->n_layers; i++) gpu_free(g, &t->layers[i], t->plan.n_bytes);
    for (int i = 0; t->host_layers && i < t->shape->n_layers; i++) {
        void *p = t->host_layers[i];
        gpu_free_host(&p);
    }
    for (int i = 0; i < GPU_SLOTS; i++) gpu_free(g, &t->slots[i], t->plan.n_bytes);
    if (t->shape) gpu_free(g, &t->norms, gpu_norms_bytes(t->shape));
    if (t->shape) gpu_free(g, &t->inv, (size_t)t->shape->head_dim * 2);
    free(t->layers);
    free(t->host_layers);
}

/* ---- copying ---- */

/* a, b and c are stacked; b and c may be NULL. */
static int add_merged(struct gpu_upload *u, CUdeviceptr device, char *host, const struct gpu_matrix *m,
                      const struct sur_view *a, const struct sur_view *b, const struct sur_view *c)
{
    const struct gpu_upload_item item = {.device = device ? device + m->offset : 0,
                                         .host = host ? host + m->offset : NULL,
                                         .views = {a, b, c},
                                         .pitch = m->pitch,
                                         .form = m->row_major ? GPU_UPLOAD_ROWS : GPU_UPLOAD_BLOCKS};
    return gpu_upload_add(u, &item);
}

static int add_matrix(struct gpu_upload *u, CUdeviceptr device, char *host, const struct gpu_matrix *m,
                      const struct sur_view *view)
{
    return add_merged(u, device, host, m, view, NULL, NULL);
}

static int add_vector(struct gpu_upload *u, CUdeviceptr device, char *host, size_t at, const struct sur_view *view)
{
    if (at == GPU_NONE || !view->data) return SUR_OK;
    const struct gpu_upload_item item = {
        .device = device ? device + at : 0, .host = host ? host + at : NULL, .views = {view}, .form = GPU_UPLOAD_FP32};
    return gpu_upload_add(u, &item);
}

static int add_layer(struct gpu_upload *u, const struct gpu_tower *t, int i)
{
    const struct gpu_layer_plan *p = &t->plan;
    const struct sur_layer *w = &t->source[i];
    CUdeviceptr d = t->layers[i];
    char *h = t->host_layers[i];
    size_t v_bias = p->bias_qkv == GPU_NONE ? GPU_NONE : p->bias_qkv + (size_t)(w->wq.rows + w->wk.rows) * 4;
    int r = add_vector(u, gpu_norm_at(t->norms, t->shape, i, false), NULL, 0, &w->attention_norm);
    if (!r) r = add_merged(u, d, h, &p->qkv, &w->wq, &w->wk, &w->wv);
    if (!r) r = add_vector(u, d, h, p->bias_qkv, &w->bq);
    if (!r) r = add_vector(u, d, h, v_bias, &w->bv);
    if (!r) r = add_matrix(u, d, h, &p->wo, &w->wo);
    if (!r) r = add_vector(u, d, h, p->bias_o, &w->bo);
    if (!r) r = add_vector(u, gpu_norm_at(t->norms, t->shape, i, true), NULL, 0, &w->ffn_norm);
    if (!r) r = add_matrix(u, d, h, &p->w1, &w->w1);
    if (!r) r = add_matrix(u, d, h, &p->w3, &w->w3);
    if (!r) r = add_matrix(u, d, h, &p->w2, &w->w2);
    if (!r) r = add_vector(u, d, h, p->bias_2, &w->b2);
    return r;
}

static int add_final_norm(struct gpu_upload *u, const struct gpu_tower *t, const struct sur_view *norm)
{
    return add_vector(u, gpu_norm_at(t->norms, t->shape, t->shape->n_layers, false), NULL, 0, norm);
}

/* k has no bias: its part of the merged bias stays zero. */
static int clear_biases(const struct gpu_tower *t)
{
    size_t at = t->plan.bias_qkv, n_bytes = (size_t)t->plan.qkv.rows * 4;
    int r = SUR_OK;
    for (int i = 0; !r && at != GPU_NONE && i < t->shape->n_layers; i++)
        if (t->layers[i]) r = gpu_check(cuMemsetD8(t->layers[i] + at, 0, n_bytes), "cuMemsetD8");
    return r;
}

static int copy_all(struct gpu_weights *w, struct gpu *g, const struct sur_weights *from)
{
    struct gpu_upload *u = NULL;
    CUdeviceptr d = w->others;
    int r = clear_biases(&w->encoder);
    if (!r) r = clear_biases(&w->decoder);
    if (!r) r = gpu_check(cuStreamSynchronize(CU_STREAM_LEGACY), "cuStreamSynchronize");
    if (!r) r = gpu_upload_create(&u, g);
    if (!r) r = add_matrix(u, d, NULL, &w->conv0, &from->conv0);
    if (!r) r = add_matrix(u, d, NULL, &w->conv1, &from->conv1);
    if (!r) r = add_vector(u, d, NULL, w->conv0_bias, &from->conv0_bias);
    if (!r) r = add_vector(u, d, NULL, w->conv1_bias, &from->conv1_bias);
    for (int i = 0; !r && i < w->encoder.shape->n_layers; i++) r = add_layer(u, &w->encoder, i);
    if (!r) r = add_final_norm(u, &w->encoder, &from->encoder_norm);
    if (!r) r = add_matrix(u, d, NULL, &w->adapter0, &from->adapter0);
    if (!r) r = add_matrix(u, d, NULL, &w->adapter2, &from->adapter2);
    if (!r) r = add_matrix(u, d, NULL, &w->embedding, &from->embedding);
    for (int i = 0; !r && i < w->decoder.shape->n_layers; i++) r = add_layer(u, &w->decoder, i);
    if (!r) r = add_final_norm(u, &w->decoder, &from->norm);
    if (!r) r = gpu_upload_run(u);
    gpu_upload_destroy(u);
    return r;
}

static int copy_inv(const struct gpu_tower *t)
{
    int half = t->shape->head_dim / 2;
    float *inv = malloc(sizeof *inv * (size_t)half);
    if (!inv) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    for (int j = 0; j < half; j++) inv[j] = (float)pow(t->shape->rope_theta, -2.0 * j / t->shape->head_dim);
    int r = gpu_check(cuMemcpyHtoD(t->inv, inv, sizeof *inv * (size_t)half), "cuMemcpyHtoD");
    free(inv);
    return r;
}

/* ---- open, close ---- */

int gpu_weights_open(struct gpu_weights *w, struct gpu *g, const struct sur_checkpoint *c, bool row_major,
                     int64_t limit_bytes, size_t reserve_bytes)
{
    size_t budget = 0;
    *w = (struct gpu_weights){.encoder = {.shape = &c->params.encoder, .source = c->weights.encoder},
                              .decoder = {.shape = &c->params.decoder, .source = c->weights.decoder}};
    plan_layer(&w->encoder.plan, w->encoder.shape, &w->encoder.source[0], row_major);
    plan_layer(&w->decoder.plan, w->decoder.shape, &w->decoder.source[0], row_major);
    plan_others(w, c, row_major);
    int r = gpu_free_memory(&budget);
    if (limit_bytes && (uint64_t)limit_bytes < budget) budget = (size_t)limit_bytes;
    reserve_bytes += w->others_bytes + gpu_norms_bytes(w->encoder.shape) + gpu_norms_bytes(w->decoder.shape);
    if (!r && (budget < reserve_bytes || !choose_resident(w, budget - reserve_bytes))) {
        size_t least = reserve_bytes + GPU_SLOTS * (w->encoder.plan.n_bytes + w->decoder.plan.n_bytes);
        return sur_fail(SUR_ERR_BACKEND, "not enough GPU memory: at least %zu MiB are needed, %zu MiB may be used",
                        (least >> 20) + 1, budget >> 20);
    }
    if (!r && w->encoder.n_resident + w->decoder.n_resident < w->encoder.shape->n_layers + w->decoder.shape->n_layers)
        sur_log(SUR_LOG_WARN,
                "the GPU's memory holds %d of %d decoder and %d of %d encoder layers; "
                "the rest is copied in every pass",
                w->decoder.n_resident, w->decoder.shape->n_layers, w->encoder.n_resident, w->encoder.shape->n_layers);
    if (!r) r = gpu_allocate(g, &w->others, w->others_bytes, false);
    if (!r) r = allocate_tower(&w->decoder, g);
    if (!r) r = allocate_tower(&w->encoder, g);
    if (!r) r = copy_inv(&w->decoder);
    if (!r) r = copy_inv(&w->encoder);
    if (!r) r = copy_all(w, g, &c->weights);
    if (r) gpu_weights_close(w, g);
    return r;
}

void gpu_weights_close(struct gpu_weights *w, struct gpu *g)
{
    free_tower(&w->encoder, g);
    free_tower(&w->decoder, g);
    gpu_free(g, &w->others, w->others_bytes);
    *w = (struct gpu_weights){.others = 0};
}
