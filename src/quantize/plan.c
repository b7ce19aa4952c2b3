#include "quantize/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"
#include "model/gguf_model.h"
#include "quantize/keys.h"
#include "util/error.h"

enum { ALIGNMENT = 32 };

static const struct preset presets[] = {
    {"q8_0", 7, SUR_WEIGHT_Q8_0, SUR_WEIGHT_Q8_0, SUR_WEIGHT_Q8_0},
    {"q6_k", 18, SUR_WEIGHT_Q6_K, SUR_WEIGHT_Q6_K, SUR_WEIGHT_Q6_K},
    {"q5_k_m", 17, SUR_WEIGHT_Q5_K, SUR_WEIGHT_Q8_0, SUR_WEIGHT_Q6_K},
    {"q4_k_m", 15, SUR_WEIGHT_Q4_K, SUR_WEIGHT_Q8_0, SUR_WEIGHT_Q6_K},
    {"bf16", 32, SUR_WEIGHT_BF16, SUR_WEIGHT_BF16, SUR_WEIGHT_BF16},
};
enum { N_PRESETS = sizeof presets / sizeof presets[0] };

const struct preset *preset_find(const char *name)
{
    for (int i = 0; i < N_PRESETS; i++)
        if (strcmp(presets[i].name, name) == 0) return &presets[i];
    return NULL;
}

const char *preset_names(void)
{
    return "q8_0, q6_k, q5_k_m, q4_k_m, bf16";
}

/* Vectors and convolutions stay F32. Rows that cannot be divided into blocks get a type with smaller blocks, or F16. */
static enum sur_weight_type choose(const struct preset *p, enum sur_tensor_kind kind, int64_t cols)
{
    if (kind == SUR_TENSOR_VECTOR || kind == SUR_TENSOR_CONV) return SUR_WEIGHT_F32;
    enum sur_weight_type type = kind == SUR_TENSOR_EMBEDDING       ? p->embedding
                                : kind == SUR_TENSOR_ATTENTION_OUT ? p->attention_out
                                                                   : p->matrix;
    if (cols % sur_block_values(type)) type = SUR_WEIGHT_Q8_0;
    if (cols % sur_block_values(type)) type = SUR_WEIGHT_F16;
    return type;
}

/* Appends the header's entry of a tensor, whose dimensions begin with the number of columns. */
static void add_entry(struct buffer *b, const struct plan_tensor *t, int n_dims, const int64_t *shape, uint64_t offset)
{
    buffer_string(b, t->name, strlen(t->name));
    buffer_u32(b, (uint32_t)n_dims);
    for (int i = n_dims - 1; i >= 0; i--) buffer_u64(b, (uint64_t)shape[i]);
    buffer_u32(b, sur_gguf_tensor_type(t->type));
    buffer_u64(b, offset);
}

/* Adds a tensor to the header and the list. *offset counts from the start of the data. */
static void add_tensor(struct plan *p, const struct plan_tensor *t, int n_dims, const int64_t *shape, uint64_t *offset)
{
    struct plan_tensor *to = &p->tensors[p->n_tensors++];
    *to = *t;
    to->offset = *offset;
    add_entry(&p->header, to, n_dims, shape, *offset);
    *offset += (uint64_t)t->rows * sur_row_bytes(t->type, t->cols);
    *offset = (*offset + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* The tables of a GGUF file are kept, because they may differ from ours by rounding. */
static int table_values(const struct sur_checkpoint *c, int i, const struct sur_gguf_table *table, float *out)
{
    const struct sur_tensor *t = c->gguf ? sur_gguf_tensor(c->gguf, table->name) : NULL;
    if (!t) return sur_gguf_table_values(&c->params, i, out);
    memcpy(out, t->data, (size_t)t->n_bytes); /* type and shape were checked when the file was opened */
    return SUR_OK;
}

static int add_tables(struct plan *p, const struct sur_checkpoint *c, uint64_t *offset)
{
    const struct sur_params *params = &c->params;
    size_t n = 0;
    struct sur_gguf_table table;
    for (int i = 0; i < SUR_GGUF_TABLES; i++) {
        sur_gguf_table(params, i, &table);
        n += (size_t)(table.rows ? table.rows : 1) * (size_t)table.cols;
    }
    float *to = p->tables = malloc(n * sizeof *to);
    if (!to) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    for (int i = 0; i < SUR_GGUF_TABLES; i++) {
        sur_gguf_table(params, i, &table);
        int rc = table_values(c, i, &table, to);
        if (rc != SUR_OK) return rc;
        struct plan_tensor t = {
            .type = SUR_WEIGHT_F32, .rows = table.rows ? table.rows : 1, .cols = table.cols, .values = to};
        const int64_t shape[2] = {table.rows ? table.rows : table.cols, table.cols};
        snprintf(t.name, sizeof t.name, "%s", table.name);
        add_tensor(p, &t, table.rows ? 2 : 1, shape, offset);
        to += (size_t)t.rows * (size_t)t.cols;
    }
    return SUR_OK;
}

int plan_make(struct plan *p, struct sur_checkpoint *c, const struct preset *preset)
{
    int n = sur_layout_count(&c->params);
    struct buffer keys = {0}, *h = &p->header;
    uint64_t offset = 0;
    keys_append(&keys, c, preset->file_type);
    p->tensors = calloc((size_t)n + SUR_GGUF_TABLES, sizeof *p->tensors);
    buffer_add(h, "GGUF", 4);
    buffer_u32(h, 3);
    buffer_u64(h, (uint64_t)n + SUR_GGUF_TABLES);
    buffer_u64(h, keys.n_keys);
    buffer_add(h, keys.data, keys.n);
    free(keys.data);
    if (!p->tensors || keys.failed) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    int rc = add_tables(p, c, &offset);
    for (int i = 0; rc == SUR_OK && i < n; i++) {
        struct sur_layout_tensor t;
        sur_layout_tensor(&c->params, &c->weights, i, &t);
        struct plan_tensor to = {.type = choose(preset, t.kind, t.view->cols),
                                 .rows = t.view->rows,
                                 .cols = t.view->cols,
                                 .head_dim = t.head_dim,
                                 .view = t.view};
        snprintf(to.name, sizeof to.name, "%s", t.name[SUR_LAYOUT_GGUF]);
        add_tensor(p, &to, t.n_dims, t.shape, &offset);
    }
    static const uint8_t zeros[ALIGNMENT];
    if (h->n % ALIGNMENT) buffer_add(h, zeros, ALIGNMENT - h->n % ALIGNMENT);
    if (rc == SUR_OK && h->failed) rc = sur_fail(SUR_ERR_MEMORY, "not enough memory");
    for (int i = 0; i < p->n_tensors; i++) p->tensors[i].offset += h->n;
    p->n_bytes = h->n + offset;
    return rc;
}

void plan_finish(struct plan *p)
{
    free(p->header.data);
    free(p->tensors);
    free(p->tables);
    *p = (struct plan){.n_tensors = 0};
}

void plan_row(const struct plan_tensor *t, int r, float *out)
{
    int d = t->head_dim, half = d / 2;
    if (t->values) {
        memcpy(out, t->values + (size_t)r * (size_t)t->cols, (size_t)t->cols * sizeof *out);
        return;
    }
    if (t->rows > 1) { /* the model's row that is row r of the file */
        int row = d ? r / d * d + (r % d < half ? 2 * (r % d) : 2 * (r % d - half) + 1) : r;
        sur_dequantise_row(t->view->type, sur_view_row(t->view, row), t->cols, out);
        return;
    }
    float model[SUR_MAX_HEAD_DIM];
    sur_view_widen(t->view, out);
    for (int at = 0; d && at < t->cols; at += d) {
        memcpy(model, out + at, (size_t)d * sizeof *model);
        for (int i = 0; i < d; i++) out[at + i] = model[i < half ? 2 * i : 2 * (i - half) + 1];
    }
}
