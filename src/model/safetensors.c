#include "model/safetensors.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "model/os_map.h"
#include "util/error.h"
#include "util/json_read.h"
#include "util/utf8.h"

enum { MAX_HEADER_BYTES = 16 << 20, MAX_JSON_MEMORY = 128 << 20, MAX_DIMS = 8, CLEAN_NAME_BYTES = 160 };
#define FILE_NAME "consolidated.safetensors"

struct sur_safetensors {
    struct sur_map map;         /* zero when parsed from memory */
    struct sur_tensor *tensors; /* [n], ascending by name */
    size_t n;
    char *names; /* all of them, terminated */
};

#define OTHER SUR_N_WEIGHT_TYPES
static const struct {
    char name[8];
    enum sur_weight_type type;
    unsigned n_bytes;
} dtypes[] = {
    {"BF16", SUR_WEIGHT_BF16, 2},
    {"F16", SUR_WEIGHT_F16, 2},
    {"F32", SUR_WEIGHT_F32, 4},
    {"F64", OTHER, 8},
    {"I64", OTHER, 8},
    {"U64", OTHER, 8},
    {"I32", OTHER, 4},
    {"U32", OTHER, 4},
    {"I16", OTHER, 2},
    {"U16", OTHER, 2},
    {"I8", OTHER, 1},
    {"U8", OTHER, 1},
    {"BOOL", OTHER, 1},
};

/* Fails with a line about a tensor, whose name comes from the file. */
static int fail_tensor(const char *name, const char *what)
{
    char clean[CLEAN_NAME_BYTES];
    sur_utf8_clean(clean, sizeof clean, name, strlen(name));
    return sur_fail(SUR_ERR_MODEL, FILE_NAME ": %s: %s", clean, what);
}

static int read_dtype(const json_t *o, const char *name, struct sur_tensor *t, unsigned *element_bytes)
{
    const char *text = json_string_value(json_object_get(o, "dtype"));
    if (!text) return fail_tensor(name, "dtype is missing");
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strcmp(text, dtypes[i].name) != 0) continue;
        t->type = dtypes[i].type;
        t->type_name = dtypes[i].name;
        *element_bytes = dtypes[i].n_bytes;
        return SUR_OK;
    }
    return fail_tensor(name, "its dtype is not known");
}

/* The shape, and n_bytes = product * element_bytes without overflow. */
static int read_shape(const json_t *o, const char *name, struct sur_tensor *t, unsigned element_bytes)
{
    const json_t *shape = json_object_get(o, "shape");
    if (!json_is_array(shape)) return fail_tensor(name, "shape is missing");
    if (json_array_size(shape) > MAX_DIMS) return fail_tensor(name, "more than 8 dimensions");
    t->n_dims = (int)json_array_size(shape);
    uint64_t n_bytes = element_bytes;
    for (int i = 0; i < t->n_dims; i++) {
        const json_t *v = json_array_get(shape, (size_t)i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return fail_tensor(name, "shape must hold whole numbers from 0");
        t->shape[i] = json_integer_value(v);
        if (__builtin_mul_overflow(n_bytes, (uint64_t)t->shape[i], &n_bytes))
            return fail_tensor(name, "the product of its shape passes 64 bits");
    }
    t->n_bytes = n_bytes;
    return SUR_OK;
}

static int read_offsets(const json_t *o, const char *name, struct sur_tensor *t, const void *data, uint64_t data_bytes)
{
    const json_t *offsets = json_object_get(o, "data_offsets");
    if (!json_is_array(offsets) || json_array_size(offsets) != 2)
        return fail_tensor(name, "data_offsets must be two numbers");
    const json_t *b = json_array_get(offsets, 0), *e = json_array_get(offsets, 1);
    if (!json_is_integer(b) || !json_is_integer(e) || json_integer_value(b) < 0)
        return fail_tensor(name, "data_offsets must be whole numbers from 0");
    if (json_integer_value(e) < json_integer_value(b)) return fail_tensor(name, "data_offsets must ascend");
    uint64_t begin = (uint64_t)json_integer_value(b), end = (uint64_t)json_integer_value(e);
    if (begin % 2 || end % 2) return fail_tensor(name, "data_offsets must be even");
    if (end > data_bytes) {
        char text[128];
        snprintf(text, sizeof text, "its data ends at byte %" PRIu64 ", but the file holds %" PRIu64 " bytes of data",
                 end, data_bytes);
        return fail_tensor(name, text);
    }
    if (end - begin != t->n_bytes) return fail_tensor(name, "data_offsets and shape disagree");
    t->data = (const char *)data + begin;
    return SUR_OK;
}

static int read_tensors(struct sur_safetensors *f, json_t *root, const void *data, uint64_t data_bytes)
{
    const char *key;
    json_t *value;
    size_t name_bytes = 0;
    json_object_foreach(root, key, value) name_bytes += strlen(key) + 1;
    f->tensors = calloc(json_object_size(root) + 1, sizeof f->tensors[0]);
    f->names = malloc(name_bytes + 1);
    if (!f->tensors || !f->names) return sur_fail(SUR_ERR_MEMORY, FILE_NAME ": out of memory");

    char *name = f->names;
    json_object_foreach(root, key, value)
    {
        if (strcmp(key, "__metadata__") == 0) continue;
        struct sur_tensor *t = &f->tensors[f->n];
        unsigned element_bytes = 0;
        if (!json_is_object(value)) return fail_tensor(key, "must be an object");
        int rc = read_dtype(value, key, t, &element_bytes);
        if (rc == SUR_OK) rc = read_shape(value, key, t, element_bytes);
        if (rc == SUR_OK) rc = read_offsets(value, key, t, data, data_bytes);
        if (rc != SUR_OK) return rc;
        t->name = memcpy(name, key, strlen(key) + 1);
        name += strlen(key) + 1;
        f->n++;
    }
    const char *why;
    const struct sur_tensor *bad = sur_tensors_sort(f->tensors, f->n, &why);
    return bad ? fail_tensor(bad->name, why) : SUR_OK;
}

int sur_safetensors_parse(struct sur_safetensors **file, const char *json, size_t json_bytes, const void *data,
                          uint64_t data_bytes)
{
    *file = NULL;
    if (json_bytes > MAX_HEADER_BYTES) return sur_fail(SUR_ERR_MODEL, FILE_NAME ": the header passes 16 MiB");
    if ((uintptr_t)data % 2) return sur_fail(SUR_ERR_MODEL, FILE_NAME ": the length of the header is odd");
    if (data_bytes > (uint64_t)INTPTR_MAX) return sur_fail(SUR_ERR_MODEL, FILE_NAME ": too large for this machine");
    json_t *root = NULL;
    int rc = sur_json_parse(&root, FILE_NAME ": header", json, json_bytes, MAX_JSON_MEMORY, 0);
    if (rc != SUR_OK) return rc;
    struct sur_safetensors *f = calloc(1, sizeof *f);
    rc = f ? read_tensors(f, root, data, data_bytes) : sur_fail(SUR_ERR_MEMORY, FILE_NAME ": out of memory");
    json_decref(root);
    if (rc != SUR_OK) sur_safetensors_close(&f);
    *file = f;
    return rc;
}

int sur_safetensors_open(struct sur_safetensors **file, const char *path)
{
    struct sur_map map;
    *file = NULL;
    int rc = sur_map_open(&map, path, (uint64_t)1 << 48);
    if (rc != SUR_OK) return rc;
    const uint8_t *bytes = map.data;
    uint64_t n = 0;
    if (map.n_bytes < 8) {
        rc = sur_fail(SUR_ERR_MODEL, FILE_NAME ": too short to hold a header");
        goto out;
    }
    for (int i = 7; i >= 0; i--) n = n << 8 | bytes[i];
    if (n > MAX_HEADER_BYTES) {
        rc = sur_fail(SUR_ERR_MODEL, FILE_NAME ": the header passes 16 MiB");
        goto out;
    }
    if (n > map.n_bytes - 8) {
        rc = sur_fail(SUR_ERR_MODEL, FILE_NAME ": the header of %" PRIu64 " bytes is cut: the file has %" PRIu64, n,
                      map.n_bytes);
        goto out;
    }
    rc = sur_safetensors_parse(file, (const char *)bytes + 8, (size_t)n, bytes + 8 + n, map.n_bytes - 8 - n);
out:
    if (rc == SUR_OK)
        (*file)->map = map;
    else
        sur_map_close(&map);
    return rc;
}

void sur_safetensors_close(struct sur_safetensors **file)
{
    if (!*file) return;
    sur_map_close(&(*file)->map);
    free((*file)->tensors);
    free((*file)->names);
    free(*file);
    *file = NULL;
}

const struct sur_tensor *sur_safetensors_find(const struct sur_safetensors *file, const char *name)
{
    return sur_tensors_find(file->tensors, file->n, name);
}

size_t sur_safetensors_count(const struct sur_safetensors *file)
{
    return file->n;
}
