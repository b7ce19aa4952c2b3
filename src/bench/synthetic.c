#include "bench/synthetic.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/pool.h"

const struct sur_params synthetic_full = {.encoder = {1280, 32, 64, 5120, 32, 32, 750, 1e6, 1e-5},
                                          .decoder = {3072, 26, 128, 9216, 32, 8, 8192, 1e6, 1e-5},
                                          .vocab_size = 131072,
                                          .ada_dim = 32,
                                          .n_mels = 128,
                                          .log_mel_max = 1.5};
static const struct sur_params tiny = {.encoder = {128, 3, 32, 512, 4, 4, 48, 1e6, 1e-5},
                                       .decoder = {192, 3, 32, 384, 8, 2, 64, 1e6, 1e-5},
                                       .vocab_size = 1512,
                                       .ada_dim = 32,
                                       .n_mels = 128,
                                       .log_mel_max = 1.5};

/* The types of a file's matrices. */
struct mix {
    const char *name;
    enum sur_weight_type matrices, attention_out, embedding, short_rows; /* short: not a multiple of 256 */
};
static const struct mix mixes[] = {
    {"bf16", SUR_WEIGHT_BF16, SUR_WEIGHT_BF16, SUR_WEIGHT_BF16, SUR_WEIGHT_BF16},
    {"q8_0", SUR_WEIGHT_Q8_0, SUR_WEIGHT_Q8_0, SUR_WEIGHT_Q8_0, SUR_WEIGHT_Q8_0},
    {"q6_k", SUR_WEIGHT_Q6_K, SUR_WEIGHT_Q8_0, SUR_WEIGHT_Q6_K, SUR_WEIGHT_Q8_0},
    {"q5_k_m", SUR_WEIGHT_Q5_K, SUR_WEIGHT_Q8_0, SUR_WEIGHT_Q6_K, SUR_WEIGHT_Q8_0},
    {"q4_k_m", SUR_WEIGHT_Q4_K, SUR_WEIGHT_Q8_0, SUR_WEIGHT_Q6_K, SUR_WEIGHT_Q8_0},
};

/* Tensors are laid out in two walks: the first adds up their sizes, the second, with memory, gives them their place. */
struct layout {
    const struct mix *mix;
    char *base;
    size_t at;
};

/* Random bits are right for quants and 6-bit scales; the fp16 scales of blocks are set so that weights are about as
 * large as trained ones and their mean is 0. */
static void set_scales(struct sur_view *v, char *data)
{
    const size_t block = sur_block_bytes(v->type), n = v->row_bytes * (size_t)v->rows;
    const bool k = v->type == SUR_WEIGHT_Q4_K || v->type == SUR_WEIGHT_Q5_K;
    const float most = v->type == SUR_WEIGHT_Q4_K ? 15 : 31; /* of a weight; minima are to be half of it */
    const uint16_t d = sur_f32_to_fp16(k                            ? 0.06f / (63 * most)
                                       : v->type == SUR_WEIGHT_Q6_K ? 0.03f / (127 * 32)
                                                                    : 0.03f / 128),
                   dmin = sur_f32_to_fp16(0.03f / 63);
    for (size_t i = 0; i < n; i += block) {
        memcpy(data + i + (v->type == SUR_WEIGHT_Q6_K ? block - 2 : 0), &d, 2);
        if (k) memcpy(data + i + 2, &dmin, 2);
    }
}

static void place_as(struct layout *l, struct sur_view *v, int rows, int cols, enum sur_weight_type type)
{
    if (rows > 1 && cols % sur_block_values(type) != 0) type = l->mix->short_rows;
    l->at = (l->at + 63) / 64 * 64 + 8;
    *v = (struct sur_view){.type = type, .rows = rows, .cols = cols, .row_bytes = sur_row_bytes(type, cols)};
    if (l->base) v->data = l->base + l->at;
    if (l->base && sur_weight_quantised(type)) set_scales(v, l->base + l->at);
    l->at += (size_t)rows * v->row_bytes;
}

static void place(struct layout *l, struct sur_view *v, int rows, int cols)
{
    place_as(l, v, rows, cols, rows > 1 ? l->mix->matrices : SUR_WEIGHT_BF16);
}

static void place_layer(struct layout *l, struct sur_layer *w, const struct sur_tower *s, int ada)
{
    int wide = s->n_heads * s->head_dim, narrow = s->n_kv_heads * s->head_dim;
    place(l, &w->wq, wide, s->dim);
    place(l, &w->wk, narrow, s->dim);
    place(l, &w->wv, narrow, s->dim);
    place_as(l, &w->wo, s->dim, wide, l->mix->attention_out);
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

static size_t place_all(struct sur_checkpoint *c, const struct mix *mix, char *base)
{
    struct layout l = {mix, base, 0};
    const struct sur_params *p = &c->params;
    struct sur_weights *w = &c->weights;
    int e = p->encoder.dim, dim = p->decoder.dim;
    place_as(&l, &w->conv0, e, 3 * p->n_mels, SUR_WEIGHT_BF16);
    place(&l, &w->conv0_bias, 1, e);
    place_as(&l, &w->conv1, e, 3 * e, SUR_WEIGHT_BF16);
    place(&l, &w->conv1_bias, 1, e);
    for (int i = 0; i < p->encoder.n_layers; i++) place_layer(&l, &w->encoder[i], &p->encoder, 0);
    place(&l, &w->encoder_norm, 1, e);
    place(&l, &w->adapter0, dim, 4 * e);
    place(&l, &w->adapter2, dim, dim);
    for (int i = 0; i < p->decoder.n_layers; i++) place_layer(&l, &w->decoder[i], &p->decoder, p->ada_dim);
    place(&l, &w->norm, 1, dim);
    place_as(&l, &w->embedding, p->vocab_size, dim, mix->embedding);
    return l.at + 64;
}

struct fill {
    uint16_t *p;
    size_t n;
    bool bits;
};

/* Uniform in +-0.03: like 1 / sqrt(k) at these sizes, so that activations stay in range. Seen as bytes, bf16 numbers so
 * made are random but for their exponents, and quants want all bits random. */
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
        f->p[i] = f->bits ? (uint16_t)(x >> 48) : (uint16_t)(u >> 16);
    }
}

/* Vectors among quantised matrices are bf16 all the same: norms of ones, biases of zeros. */
static void plain_vector(struct sur_view *v, uint16_t value)
{
    uint16_t *data = (uint16_t *)(uintptr_t)v->data;
    for (int i = 0; i < v->cols && data; i++) data[i] = value;
}

static void plain_vectors(struct sur_checkpoint *c)
{
    struct sur_weights *w = &c->weights;
    enum { ONE = 0x3f80 };
    for (int i = 0; i < c->params.encoder.n_layers + c->params.decoder.n_layers; i++) {
        struct sur_layer *l =
            i < c->params.encoder.n_layers ? &w->encoder[i] : &w->decoder[i - c->params.encoder.n_layers];
        struct sur_view *const biases[] = {&l->bq, &l->bv, &l->bo, &l->b2};
        plain_vector(&l->attention_norm, ONE);
        plain_vector(&l->ffn_norm, ONE);
        for (int j = 0; j < 4; j++) plain_vector(biases[j], 0);
    }
    plain_vector(&w->conv0_bias, 0);
    plain_vector(&w->conv1_bias, 0);
    plain_vector(&w->encoder_norm, ONE);
    plain_vector(&w->norm, ONE);
}

static void fill_matrix(struct sur_view *v, struct sur_pool *pool)
{
    struct fill f = {(uint16_t *)(uintptr_t)v->data, (size_t)v->rows * v->row_bytes / 2, false};
    sur_pool_run(pool, fill_part, &f);
}

int synthetic_create(struct sur_checkpoint *c, const char *name, const char *type, struct sur_pool *pool)
{
    const struct mix *mix = NULL;
    memset(c, 0, sizeof *c);
    for (size_t i = 0; i < sizeof mixes / sizeof *mixes; i++)
        if (!strcmp(type, mixes[i].name)) mix = &mixes[i];
    const bool part = !strcmp(name, "part");
    if (!mix || (!part && strcmp(name, "full") && strcmp(name, "tiny"))) return -1;
    c->params = strcmp(name, "tiny") ? synthetic_full : tiny;
    if (part) c->params.encoder.n_layers = 4, c->params.decoder.n_layers = 2, c->params.vocab_size = 32768;
    c->weights.encoder = calloc((size_t)c->params.encoder.n_layers, sizeof *c->weights.encoder);
    c->weights.decoder = calloc((size_t)c->params.decoder.n_layers, sizeof *c->weights.decoder);
    if (!c->weights.encoder || !c->weights.decoder) return -1;
    size_t n_bytes = place_all(c, mix, NULL);
    char *memory = aligned_alloc(4096, (n_bytes + 4095) / 4096 * 4096);
    if (!memory) return -1;
    struct fill f = {(uint16_t *)(void *)memory, n_bytes / 2, mix->matrices != SUR_WEIGHT_BF16};
    sur_pool_run(pool, fill_part, &f);
    place_all(c, mix, memory);
    if (f.bits) {
        fill_matrix(&c->weights.conv0, pool);
        fill_matrix(&c->weights.conv1, pool);
        plain_vectors(c);
    }
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
