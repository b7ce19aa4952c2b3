#include "bench/synthetic.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/pool.h"

static const struct sur_params full = {.encoder = {1280, 32, 64, 5120, 32, 32, 750, 1e6, 1e-5},
                                       .decoder = {3072, 26, 128, 9216, 32, 8, 8192, 1e6, 1e-5},
                                       .vocab_size = 131072,
                                       .ada_dim = 32,
                                       .n_mels = 128,
                                       .downsample = 4,
                                       .log_mel_max = 1.5};
static const struct sur_params tiny = {.encoder = {128, 3, 32, 512, 4, 4, 48, 1e6, 1e-5},
                                       .decoder = {192, 3, 32, 384, 8, 2, 64, 1e6, 1e-5},
                                       .vocab_size = 1512,
                                       .ada_dim = 32,
                                       .n_mels = 128,
                                       .downsample = 4,
                                       .log_mel_max = 1.5};

/* Tensors are laid out in two walks: the first adds up their sizes, the second, with memory, gives them their place. */
struct layout {
    char *base;
    size_t at;
};

static void place(struct layout *l, struct sur_view *v, int rows, int cols)
{
    l->at = (l->at + 63) / 64 * 64 + 8;
    *v = (struct sur_view){
        .rows = rows, .cols = cols, .row_bytes = (size_t)cols * 2, .data = l->base ? l->base + l->at : NULL};
    l->at += (size_t)rows * (size_t)cols * 2;
}

static void place_layer(struct layout *l, struct sur_layer *w, const struct sur_tower *s, int ada)
{
    int wide = s->n_heads * s->head_dim, narrow = s->n_kv_heads * s->head_dim;
    place(l, &w->wq, wide, s->dim);
    place(l, &w->wk, narrow, s->dim);
    place(l, &w->wv, narrow, s->dim);
    place(l, &w->wo, s->dim, wide);
    place(l, &w->w1, s->hidden_dim, s->dim);
    place(l, &w->w3, s->hidden_dim, s->dim);
    place(l, &w->w2, s->dim, s->hidden_dim);
    place(l, &w->attention_norm, 1, s->dim);
    place(l, &w->ffn_norm, 1, s->dim);
    if (ada) {
        place(l, &w->ada0, ada, s->dim);
        place(l, &w->ada2, s->dim, ada);
    } else {
        place(l, &w->bq, 1, wide);
        place(l, &w->bv, 1, narrow);
        place(l, &w->bo, 1, s->dim);
        place(l, &w->b2, 1, s->dim);
    }
}

static size_t place_all(struct sur_checkpoint *c, char *base)
{
    struct layout l = {base, 0};
    const struct sur_params *p = &c->params;
    struct sur_weights *w = &c->weights;
    int e = p->encoder.dim, dim = p->decoder.dim;
    place(&l, &w->conv0, e, 3 * p->n_mels);
    place(&l, &w->conv0_bias, 1, e);
    place(&l, &w->conv1, e, 3 * e);
    place(&l, &w->conv1_bias, 1, e);
    for (int i = 0; i < p->encoder.n_layers; i++) place_layer(&l, &w->encoder[i], &p->encoder, 0);
    place(&l, &w->encoder_norm, 1, e);
    place(&l, &w->adapter0, dim, 4 * e);
    place(&l, &w->adapter2, dim, dim);
    for (int i = 0; i < p->decoder.n_layers; i++) place_layer(&l, &w->decoder[i], &p->decoder, p->ada_dim);
    place(&l, &w->norm, 1, dim);
    place(&l, &w->embedding, p->vocab_size, dim);
    return l.at + 64;
}

struct fill {
    uint16_t *p;
    size_t n;
};

/* Uniform in +-0.03: like 1 / sqrt(k) at these sizes, so that activations stay in range. */
static void fill_part(void *arg, int part, int n_parts)
{
    struct fill *f = arg;
    size_t per = f->n / (size_t)n_parts, begin = (size_t)part * per, end = part == n_parts - 1 ? f->n : begin + per;
    uint64_t x = 88172645463325252u + (uint64_t)part;
    for (size_t i = begin; i < end; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        float v = ((float)(int32_t)(x >> 32)) * (0.03f / 2147483648.0f);
        uint32_t u;
        memcpy(&u, &v, sizeof u);
        f->p[i] = (uint16_t)(u >> 16);
    }
}

int synthetic_create(struct sur_checkpoint *c, const char *name, struct sur_pool *pool)
{
    memset(c, 0, sizeof *c);
    if (strcmp(name, "full") && strcmp(name, "tiny")) return -1;
    c->params = strcmp(name, "full") ? tiny : full;
    c->weights.encoder = calloc((size_t)c->params.encoder.n_layers, sizeof *c->weights.encoder);
    c->weights.decoder = calloc((size_t)c->params.decoder.n_layers, sizeof *c->weights.decoder);
    if (!c->weights.encoder || !c->weights.decoder) return -1;
    size_t n_bytes = place_all(c, NULL);
    char *memory = aligned_alloc(4096, (n_bytes + 4095) / 4096 * 4096);
    if (!memory) return -1;
    struct fill f = {(uint16_t *)(void *)memory, n_bytes / 2};
    sur_pool_run(pool, fill_part, &f);
    place_all(c, memory);
    c->file = (struct sur_safetensors *)(void *)memory; /* owned; no safetensors file stands behind it */
    return 0;
}

void synthetic_destroy(struct sur_checkpoint *c)
{
    free(c->file);
    free(c->weights.encoder);
    free(c->weights.decoder);
    memset(c, 0, sizeof *c);
}
