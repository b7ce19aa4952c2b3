#include "model/checkpoint.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/os_map.h"
#include "model/safetensors.h"
#include "text/tekken.h"
#include "util/error.h"
#include "util/log.h"
#include "util/utf8.h"

enum { MAX_PARAMS_BYTES = 1 << 20, MAX_TEKKEN_BYTES = 128 << 20, NAME_BYTES = 160 };

#define EMBEDDER "mm_streams_embeddings.embedding_module."
#define WHISPER  EMBEDDER "whisper_encoder."

struct binder {
    const struct sur_safetensors *file;
    size_t n_bound;
};

static void describe(char *out, size_t size, int n_dims, const int64_t *shape)
{
    size_t at = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < n_dims && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (at < size) snprintf(out + at, size - at, "]");
}

/* Finds a tensor, checks its type and shape (d1, d2: 0 for none) and makes a view: a vector is one row, and what
 * stands behind the first dimension lies side by side. */
static int bind(struct binder *b, struct sur_view *view, const char *name, int64_t d0, int64_t d1, int64_t d2)
{
    const int64_t shape[3] = {d0, d1, d2};
    int n_dims = d2 ? 3 : d1 ? 2 : 1;
    char expected[96], found[224];
    const struct sur_tensor *t = sur_safetensors_find(b->file, name);
    if (!t) return sur_fail(SUR_ERR_MODEL, "consolidated.safetensors: %s is missing", name);
    if (t->type != SUR_WEIGHT_BF16) return sur_fail(SUR_ERR_MODEL, "consolidated.safetensors: %s must be BF16", name);
    if (t->n_dims != n_dims || memcmp(t->shape, shape, (size_t)n_dims * sizeof shape[0]) != 0) {
        describe(expected, sizeof expected, n_dims, shape);
        describe(found, sizeof found, t->n_dims, t->shape);
        return sur_fail(SUR_ERR_MODEL, "consolidated.safetensors: %s has shape %s, params.json asks for %s", name,
                        found, expected);
    }
    int64_t rows = d1 ? d0 : 1, cols = d1 ? d1 * (d2 ? d2 : 1) : d0;
    *view = (struct sur_view){
        .type = SUR_WEIGHT_BF16, .rows = (int)rows, .cols = (int)cols, .row_bytes = (size_t)cols * 2, .data = t->data};
    b->n_bound++;
    return SUR_OK;
}

/* The tensors of a layer: sizes are named by letters, looked up in the tower (0: no such dimension). */
enum { IN_ENCODER = 1, IN_DECODER = 2, IN_BOTH = 3 };
static const struct {
    const char *name;
    size_t offset;
    char rows, cols; /* d dim, h hidden, q heads * head_dim, k kv_heads * head_dim, a ada */
    char where;
} layer_tensors[] = {
    {"attention.wq.weight", offsetof(struct sur_layer, wq), 'q', 'd', IN_BOTH},
    {"attention.wk.weight", offsetof(struct sur_layer, wk), 'k', 'd', IN_BOTH},
    {"attention.wv.weight", offsetof(struct sur_layer, wv), 'k', 'd', IN_BOTH},
    {"attention.wo.weight", offsetof(struct sur_layer, wo), 'd', 'q', IN_BOTH},
    {"attention.wq.bias", offsetof(struct sur_layer, bq), 'q', 0, IN_ENCODER},
    {"attention.wv.bias", offsetof(struct sur_layer, bv), 'k', 0, IN_ENCODER},
    {"attention.wo.bias", offsetof(struct sur_layer, bo), 'd', 0, IN_ENCODER},
    {"attention_norm.weight", offsetof(struct sur_layer, attention_norm), 'd', 0, IN_BOTH},
    {"ffn_norm.weight", offsetof(struct sur_layer, ffn_norm), 'd', 0, IN_BOTH},
    {"feed_forward.w1.weight", offsetof(struct sur_layer, w1), 'h', 'd', IN_BOTH},
    {"feed_forward.w2.weight", offsetof(struct sur_layer, w2), 'd', 'h', IN_BOTH},
    {"feed_forward.w3.weight", offsetof(struct sur_layer, w3), 'h', 'd', IN_BOTH},
    {"feed_forward.w2.bias", offsetof(struct sur_layer, b2), 'd', 0, IN_ENCODER},
    {"ada_rms_norm_t_cond.0.weight", offsetof(struct sur_layer, ada0), 'a', 'd', IN_DECODER},
    {"ada_rms_norm_t_cond.2.weight", offsetof(struct sur_layer, ada2), 'd', 'a', IN_DECODER},
};

static int64_t size_of(char letter, const struct sur_tower *t, int ada_dim)
{
    switch (letter) {
    case 'd':
        return t->dim;
    case 'h':
        return t->hidden_dim;
    case 'q':
        return (int64_t)t->n_heads * t->head_dim;
    case 'k':
        return (int64_t)t->n_kv_heads * t->head_dim;
    case 'a':
        return ada_dim;
    default:
        return 0;
    }
}

static int bind_tower(struct binder *b, struct sur_layer **layers, const struct sur_tower *tower, const char *prefix,
                      int where, int ada_dim)
{
    *layers = calloc((size_t)tower->n_layers, sizeof **layers);
    if (!*layers) return sur_fail(SUR_ERR_MEMORY, "consolidated.safetensors: out of memory");
    for (int l = 0; l < tower->n_layers; l++) {
        for (size_t i = 0; i < sizeof layer_tensors / sizeof layer_tensors[0]; i++) {
            if (!(layer_tensors[i].where & where)) continue;
            char name[NAME_BYTES];
            snprintf(name, sizeof name, "%slayers.%d.%s", prefix, l, layer_tensors[i].name);
            struct sur_view *view = (struct sur_view *)((char *)&(*layers)[l] + layer_tensors[i].offset);
            int rc = bind(b, view, name, size_of(layer_tensors[i].rows, tower, ada_dim),
                          size_of(layer_tensors[i].cols, tower, ada_dim), 0);
            if (rc != SUR_OK) return rc;
        }
    }
    return SUR_OK;
}

static int bind_all(struct sur_checkpoint *c)
{
    const struct sur_params *p = &c->params;
    struct sur_weights *w = &c->weights;
    int64_t e = p->encoder.dim, dim = p->decoder.dim;
    struct binder b = {.file = c->file};
    int rc;
    if ((rc = bind(&b, &w->embedding, EMBEDDER "tok_embeddings.weight", p->vocab_size, dim, 0)) != SUR_OK) return rc;
    if ((rc = bind(&b, &w->conv0, WHISPER "conv_layers.0.conv.weight", e, p->n_mels, 3)) != SUR_OK) return rc;
    if ((rc = bind(&b, &w->conv0_bias, WHISPER "conv_layers.0.conv.bias", e, 0, 0)) != SUR_OK) return rc;
    if ((rc = bind(&b, &w->conv1, WHISPER "conv_layers.1.conv.weight", e, e, 3)) != SUR_OK) return rc;
    if ((rc = bind(&b, &w->conv1_bias, WHISPER "conv_layers.1.conv.bias", e, 0, 0)) != SUR_OK) return rc;
    if ((rc = bind_tower(&b, &w->encoder, &p->encoder, WHISPER "transformer.", IN_ENCODER, 0)) != SUR_OK) return rc;
    if ((rc = bind(&b, &w->encoder_norm, WHISPER "transformer.norm.weight", e, 0, 0)) != SUR_OK) return rc;
    if ((rc = bind(&b, &w->adapter0, EMBEDDER "audio_language_projection.0.weight", dim, 4 * e, 0)) != SUR_OK)
        return rc;
    if ((rc = bind(&b, &w->adapter2, EMBEDDER "audio_language_projection.2.weight", dim, dim, 0)) != SUR_OK) return rc;
    if ((rc = bind_tower(&b, &w->decoder, &p->decoder, "", IN_DECODER, p->ada_dim)) != SUR_OK) return rc;
    if ((rc = bind(&b, &w->norm, "norm.weight", dim, 0, 0)) != SUR_OK) return rc;
    size_t n_more = sur_safetensors_count(c->file) - b.n_bound;
    if (n_more)
        sur_log(SUR_LOG_WARN, "consolidated.safetensors: %zu tensors that params.json does not speak of are not used",
                n_more);
    return SUR_OK;
}

static int read_params(struct sur_checkpoint *c, const char *path)
{
    struct sur_map map;
    int rc = sur_map_open(&map, path, MAX_PARAMS_BYTES);
    if (rc != SUR_OK) return rc;
    rc = sur_params_parse(&c->params, map.data, (size_t)map.n_bytes);
    sur_map_close(&map);
    return rc;
}

static int read_tekken(struct sur_checkpoint *c, const char *path)
{
    struct sur_map map;
    int rc = sur_map_open(&map, path, MAX_TEKKEN_BYTES);
    if (rc != SUR_OK) return rc;
    rc = sur_tekken_parse(&c->tekken, map.data, (size_t)map.n_bytes, c->params.vocab_size);
    sur_map_close(&map);
    return rc;
}

static int open_all(struct sur_checkpoint *c, char *path, size_t path_bytes, const char *dir)
{
    snprintf(path, path_bytes, "%s/params.json", dir);
    int rc = read_params(c, path);
    if (rc != SUR_OK) return rc;
    snprintf(path, path_bytes, "%s/consolidated.safetensors", dir); /* before tekken.json, which takes longer to read */
    if ((rc = sur_safetensors_open(&c->file, path)) != SUR_OK) return rc;
    if ((rc = bind_all(c)) != SUR_OK) return rc;
    snprintf(path, path_bytes, "%s/tekken.json", dir);
    return read_tekken(c, path);
}

int sur_checkpoint_open(struct sur_checkpoint **checkpoint, const char *dir)
{
    *checkpoint = NULL;
    size_t path_bytes = strlen(dir) + 32;
    char *path = malloc(path_bytes);
    struct sur_checkpoint *c = calloc(1, sizeof *c);
    int rc = SUR_OK;
    if (!path || !c)
        rc = sur_fail(SUR_ERR_MEMORY, "%s: out of memory", dir);
    else
        rc = open_all(c, path, path_bytes, dir);
    if (rc != SUR_OK && path && c) {
        char line[400], clean[200]; /* the parts name the file; the folder stands before it */
        snprintf(line, sizeof line, "%s", sur_error_text());
        sur_utf8_clean(clean, sizeof clean, dir, strlen(dir));
        sur_fail(rc, "%s/%s", clean, line);
    }
    free(path);
    if (rc != SUR_OK) sur_checkpoint_close(&c);
    *checkpoint = c;
    return rc;
}

void sur_checkpoint_close(struct sur_checkpoint **checkpoint)
{
    struct sur_checkpoint *c = *checkpoint;
    if (!c) return;
    free(c->weights.encoder);
    free(c->weights.decoder);
    sur_tekken_destroy(&c->tekken);
    sur_safetensors_close(&c->file);
    free(c);
    *checkpoint = NULL;
}
