#include "model/checkpoint.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "model/gguf.h"
#include "model/gguf_model.h"
#include "model/layout.h"
#include "model/os_map.h"
#include "model/safetensors.h"
#include "text/tekken.h"
#include "util/error.h"
#include "util/log.h"
#include "util/utf8.h"

enum { MAX_PARAMS_BYTES = 1 << 20, MAX_TEKKEN_BYTES = 128 << 20 };

#define SAFETENSORS "consolidated.safetensors"

static const char *weights_name(const struct sur_checkpoint *c)
{
    return c->gguf ? sur_gguf_name(c->gguf) : SAFETENSORS;
}

static void describe(char *out, size_t size, int n_dims, const int64_t *shape)
{
    size_t at = (size_t)snprintf(out, size, "[");
    for (int i = 0; i < n_dims && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? ", " : "", (long long)shape[i]);
    if (at < size) snprintf(out + at, size - at, "]");
}

static int check_type(const struct sur_checkpoint *c, const struct sur_layout_tensor *want, const struct sur_tensor *t)
{
    bool plain = t->type == SUR_WEIGHT_BF16 || t->type == SUR_WEIGHT_F16 || t->type == SUR_WEIGHT_F32;
    bool matrix = want->kind != SUR_TENSOR_VECTOR && want->kind != SUR_TENSOR_CONV;
    if (!c->gguf && t->type != SUR_WEIGHT_BF16)
        return sur_fail(SUR_ERR_MODEL, SAFETENSORS ": %s must be BF16", t->name);
    if (plain || (c->gguf && matrix && t->type != SUR_N_WEIGHT_TYPES)) return SUR_OK;
    return sur_fail(SUR_ERR_MODEL, "%s: %s is %s; it can be %sBF16, F16 or F32", weights_name(c), t->name, t->type_name,
                    matrix ? "Q8_0, Q6_K, Q5_K, Q4_K, " : "");
}

/* Finds a tensor, checks its type and shape, and makes a view. A vector is one row; in a row of a matrix all dimensions
 * after the first are contiguous. */
static int bind(const struct sur_checkpoint *c, const struct sur_layout_tensor *want)
{
    char expected[96], found[224];
    const char *name = want->name[c->gguf ? SUR_LAYOUT_GGUF : SUR_LAYOUT_MISTRAL];
    const struct sur_tensor *t = c->gguf ? sur_gguf_tensor(c->gguf, name) : sur_safetensors_find(c->file, name);
    if (!t) return sur_fail(SUR_ERR_MODEL, "%s: %s is missing", weights_name(c), name);
    int rc = check_type(c, want, t);
    if (rc != SUR_OK) return rc;
    if (t->n_dims != want->n_dims || memcmp(t->shape, want->shape, (size_t)t->n_dims * sizeof t->shape[0]) != 0) {
        describe(expected, sizeof expected, want->n_dims, want->shape);
        describe(found, sizeof found, t->n_dims, t->shape);
        return sur_fail(SUR_ERR_MODEL, "%s: %s has shape %s, %s asks for %s", weights_name(c), name, found,
                        c->gguf ? "the metadata" : "params.json", expected);
    }
    bool vector = want->n_dims == 1;
    int64_t rows = vector ? 1 : want->shape[0], cols = want->shape[vector ? 0 : 1] * (want->n_dims == 3 ? 3 : 1);
    *want->view = (struct sur_view){.type = t->type,
                                    .rows = (int)rows,
                                    .cols = (int)cols,
                                    .row_bytes = sur_row_bytes(t->type, (int)cols),
                                    .data = t->data,
                                    .head_dim_halves = c->gguf ? want->head_dim : 0};
    return SUR_OK;
}

/* Counts the tensors that are used, with the tables that only GGUF files hold. */
static size_t count_known(const struct sur_checkpoint *c)
{
    size_t n = (size_t)sur_layout_count(&c->params);
    for (int i = 0; c->gguf && i < SUR_GGUF_TABLES; i++) {
        struct sur_gguf_table table;
        sur_gguf_table(&c->params, i, &table);
        n += sur_gguf_tensor(c->gguf, table.name) != NULL;
    }
    return n;
}

static int bind_all(struct sur_checkpoint *c)
{
    struct sur_weights *w = &c->weights;
    struct sur_layout_tensor want;
    w->encoder = calloc((size_t)c->params.encoder.n_layers, sizeof *w->encoder);
    w->decoder = calloc((size_t)c->params.decoder.n_layers, sizeof *w->decoder);
    if (!w->encoder || !w->decoder) return sur_fail(SUR_ERR_MEMORY, "%s: out of memory", weights_name(c));
    for (int i = 0; i < sur_layout_count(&c->params); i++) {
        sur_layout_tensor(&c->params, w, i, &want);
        int rc = bind(c, &want);
        if (rc != SUR_OK) return rc;
    }
    size_t n_more = (c->gguf ? sur_gguf_n_tensors(c->gguf) : sur_safetensors_count(c->file)) - count_known(c);
    if (n_more)
        sur_log(SUR_LOG_WARN, "%s: %zu tensors that %s does not speak of are not used", weights_name(c), n_more,
                c->gguf ? "the metadata" : "params.json");
    return SUR_OK;
}

/* Converts a matrix of F16 or F32 to BF16, rows in the model's order, if that changes no value, as for every matrix
 * that was made from BF16. Backends then need no products for these types. Other matrices stay as they are. */
static int convert(struct sur_checkpoint *c, struct sur_view *view)
{
    size_t n = (size_t)view->cols;
    uint16_t *all = malloc((size_t)view->rows * n * sizeof *all), *to = all;
    float *row = malloc(n * sizeof *row);
    bool exact = true;
    if (!all || !row) {
        free(all);
        free(row);
        return sur_fail(SUR_ERR_MEMORY, "%s: out of memory", weights_name(c));
    }
    for (int r = 0; exact && r < view->rows; r++) {
        sur_dequantise_row(view->type, sur_view_row(view, r), view->cols, row);
        for (size_t i = 0; i < n; i++) {
            uint32_t bits;
            memcpy(&bits, &row[i], sizeof bits);
            exact = exact && !(bits & 0xffff);
            *to++ = (uint16_t)(bits >> 16);
        }
    }
    free(row);
    if (exact) {
        *view = (struct sur_view){
            .type = SUR_WEIGHT_BF16, .rows = view->rows, .cols = view->cols, .row_bytes = n * sizeof *all, .data = all};
        c->converted[c->n_converted++] = all;
    } else {
        free(all);
    }
    return SUR_OK;
}

static int convert_all(struct sur_checkpoint *c)
{
    struct sur_layout_tensor t;
    c->converted = calloc((size_t)sur_layout_count(&c->params), sizeof *c->converted);
    if (!c->converted) return sur_fail(SUR_ERR_MEMORY, "%s: out of memory", weights_name(c));
    for (int i = 0; i < sur_layout_count(&c->params); i++) {
        sur_layout_tensor(&c->params, &c->weights, i, &t);
        bool wide = t.view->type == SUR_WEIGHT_F16 || t.view->type == SUR_WEIGHT_F32;
        int rc = wide && t.kind != SUR_TENSOR_VECTOR ? convert(c, t.view) : SUR_OK;
        if (rc != SUR_OK) return rc;
    }
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

static int open_folder(struct sur_checkpoint *c, char *path, size_t path_bytes, const char *dir)
{
    snprintf(path, path_bytes, "%s/params.json", dir);
    int rc = read_params(c, path);
    if (rc != SUR_OK) return rc;
    snprintf(path, path_bytes, "%s/" SAFETENSORS, dir); /* before tekken.json, which takes longer to read */
    if ((rc = sur_safetensors_open(&c->file, path)) != SUR_OK) return rc;
    if ((rc = bind_all(c)) != SUR_OK) return rc;
    snprintf(path, path_bytes, "%s/tekken.json", dir);
    return read_tekken(c, path);
}

static int open_gguf(struct sur_checkpoint *c, const char *path)
{
    int rc = sur_gguf_open(&c->gguf, path);
    if (rc == SUR_OK) rc = sur_gguf_params(c->gguf, &c->params);
    if (rc == SUR_OK) rc = bind_all(c);
    if (rc == SUR_OK) rc = sur_gguf_check_tables(c->gguf, &c->params);
    if (rc == SUR_OK) rc = convert_all(c);
    if (rc == SUR_OK) rc = sur_gguf_tekken(c->gguf, &c->params, &c->tekken);
    return rc;
}

/* Puts the folder, the first n bytes of path, before the file name that begins the error line. */
static int add_folder(int rc, const char *path, size_t n)
{
    char line[400], clean[200];
    snprintf(line, sizeof line, "%s", sur_error_text());
    sur_utf8_clean(clean, sizeof clean, path, n);
    return sur_fail(rc, "%s%s%s", clean, n ? "/" : "", line);
}

static int open_path(struct sur_checkpoint *c, const char *path)
{
    struct stat st;
    size_t path_bytes = strlen(path) + 32;
    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) { /* a path that does not exist is reported as a missing folder */
        const char *slash = strrchr(path, '/');
        if (sur_gguf_is(path)) {
            int rc = open_gguf(c, path);
            return rc == SUR_OK ? rc : add_folder(rc, path, slash ? (size_t)(slash - path) : 0);
        }
        sur_fail(SUR_ERR_MODEL, "%s: neither a folder nor a GGUF file", slash ? slash + 1 : path);
        return add_folder(SUR_ERR_MODEL, path, slash ? (size_t)(slash - path) : 0);
    }
    char *file = malloc(path_bytes);
    int rc = file ? open_folder(c, file, path_bytes, path) : sur_fail(SUR_ERR_MEMORY, "out of memory");
    if (rc != SUR_OK) add_folder(rc, path, strlen(path));
    free(file);
    return rc;
}

int sur_checkpoint_open(struct sur_checkpoint **checkpoint, const char *path)
{
    struct sur_checkpoint *c = calloc(1, sizeof *c);
    int rc = c ? open_path(c, path) : sur_fail(SUR_ERR_MEMORY, "not enough memory");
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
    for (int i = 0; i < c->n_converted; i++) free(c->converted[i]);
    free(c->converted);
    sur_tekken_destroy(&c->tekken);
    sur_safetensors_close(&c->file);
    sur_gguf_close(&c->gguf);
    free(c);
    *checkpoint = NULL;
}

/* ---- types ---- */

const char *sur_checkpoint_type(const struct sur_checkpoint *c)
{
    static const char *const names[SUR_N_WEIGHT_TYPES] = {
        [SUR_WEIGHT_BF16] = "bf16",  [SUR_WEIGHT_F16] = "f16",   [SUR_WEIGHT_F32] = "f32",
        [SUR_WEIGHT_Q8_0] = "q8_0",  [SUR_WEIGHT_Q6_K] = "q6_k", [SUR_WEIGHT_Q5_K] = "q5_k_m",
        [SUR_WEIGHT_Q4_K] = "q4_k_m"};
    struct sur_weights weights = c->weights; /* its views are only read */
    struct sur_layout_tensor t;
    int64_t count[SUR_N_WEIGHT_TYPES] = {0};
    int most = 0;
    for (int i = 0; i < sur_layout_count(&c->params); i++) {
        sur_layout_tensor(&c->params, &weights, i, &t);
        count[t.view->type] += (int64_t)t.view->rows * t.view->cols;
    }
    for (int i = 0; i < SUR_N_WEIGHT_TYPES; i++)
        if (count[i] > count[most]) most = i;
    return names[most];
}

int sur_checkpoint_need(const struct sur_checkpoint *c, unsigned types, const char *user)
{
    struct sur_weights weights = c->weights; /* its views are only read */
    struct sur_layout_tensor t;
    for (int i = 0; i < sur_layout_count(&c->params); i++) {
        sur_layout_tensor(&c->params, &weights, i, &t);
        if (t.kind == SUR_TENSOR_VECTOR || types >> t.view->type & 1) continue;
        return sur_fail(SUR_ERR_BACKEND, "%s is %s, which the %s backend does not run yet", t.name[SUR_LAYOUT_GGUF],
                        sur_weight_type_name(t.view->type), user);
    }
    return SUR_OK;
}
