#include "model/gguf.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/os_map.h"
#include "util/error.h"
#include "util/utf8.h"

enum {
    VERSION = 3,
    MAX_HEADER_BYTES = 256 << 20,
    MAX_KEYS = 1024, /* looked up one after the other */
    MAX_TENSORS = 65536,
    MAX_ELEMENTS = 1 << 22, /* of an array */
    MAX_NAME_BYTES = 256,
    MAX_DIMS = 4,
    MAX_ALIGNMENT = 1 << 20,
    CLEAN_BYTES = 160,
};

struct sur_gguf {
    struct sur_map map; /* zero when parsed from memory */
    char name[CLEAN_BYTES];
    struct sur_gguf_key *keys; /* [n_keys] */
    size_t n_keys;
    struct sur_tensor *tensors; /* [n], ascending by name */
    size_t n;
    char *names; /* the tensors', terminated */
};

/* Types of values: bytes, 0 for strings and arrays. */
static const struct {
    char name[8];
    unsigned bytes;
} values[] = {{"U8", 1},   {"I8", 1},     {"U16", 2},   {"I16", 2}, {"U32", 4}, {"I32", 4}, {"F32", 4},
              {"BOOL", 1}, {"STRING", 0}, {"ARRAY", 0}, {"U64", 8}, {"I64", 8}, {"F64", 8}};
enum { N_VALUE_TYPES = sizeof values / sizeof values[0] };

/* Types of tensors, including those that are not supported, so that an error line can name them. */
#define OTHER SUR_N_WEIGHT_TYPES
static const struct {
    char name[8];
    enum sur_weight_type type;
} tensor_types[] = {
    [0] = {"F32", SUR_WEIGHT_F32},
    [1] = {"F16", SUR_WEIGHT_F16},
    [2] = {"Q4_0", OTHER},
    [3] = {"Q4_1", OTHER},
    [6] = {"Q5_0", OTHER},
    [7] = {"Q5_1", OTHER},
    [8] = {"Q8_0", SUR_WEIGHT_Q8_0},
    [9] = {"Q8_1", OTHER},
    [10] = {"Q2_K", OTHER},
    [11] = {"Q3_K", OTHER},
    [12] = {"Q4_K", SUR_WEIGHT_Q4_K},
    [13] = {"Q5_K", SUR_WEIGHT_Q5_K},
    [14] = {"Q6_K", SUR_WEIGHT_Q6_K},
    [15] = {"Q8_K", OTHER},
    [16] = {"IQ2_XXS", OTHER},
    [17] = {"IQ2_XS", OTHER},
    [18] = {"IQ3_XXS", OTHER},
    [19] = {"IQ1_S", OTHER},
    [20] = {"IQ4_NL", OTHER},
    [21] = {"IQ3_S", OTHER},
    [22] = {"IQ2_S", OTHER},
    [23] = {"IQ4_XS", OTHER},
    [24] = {"I8", OTHER},
    [25] = {"I16", OTHER},
    [26] = {"I32", OTHER},
    [27] = {"I64", OTHER},
    [28] = {"F64", OTHER},
    [29] = {"IQ1_M", OTHER},
    [30] = {"BF16", SUR_WEIGHT_BF16},
    [34] = {"TQ1_0", OTHER},
    [35] = {"TQ2_0", OTHER},
    [39] = {"MXFP4", OTHER},
    [40] = {"NVFP4", OTHER},
};
enum { N_TENSOR_TYPES = sizeof tensor_types / sizeof tensor_types[0] };

uint32_t sur_gguf_tensor_type(enum sur_weight_type type)
{
    for (uint32_t i = 0; i < N_TENSOR_TYPES; i++)
        if (tensor_types[i].name[0] && tensor_types[i].type == type) return i;
    return UINT32_MAX;
}

/* ---- the header, piece by piece ---- */

struct reader {
    struct sur_gguf *file;
    const uint8_t *begin, *at, *end; /* of the header, within its bounds */
};

/* Fails with a line about a key or a tensor, whose name comes from the file. */
static int fail_name(const struct sur_gguf *f, const char *name, size_t n, const char *what)
{
    char clean[CLEAN_BYTES];
    sur_utf8_clean(clean, sizeof clean, name, n);
    return sur_fail(SUR_ERR_MODEL, "%s: %s: %s", f->name, clean, what);
}

static int fail_key(const struct sur_gguf *f, const char *key, const char *what)
{
    return fail_name(f, key, strlen(key), what);
}

static int take(struct reader *r, uint64_t n_bytes, const uint8_t **out)
{
    if (n_bytes > (uint64_t)(r->end - r->at))
        return sur_fail(SUR_ERR_MODEL, "%s: the header is cut at byte %td, or passes %d MiB", r->file->name,
                        r->end - r->begin, MAX_HEADER_BYTES >> 20);
    *out = r->at;
    r->at += n_bytes;
    return SUR_OK;
}

static uint64_t little(const uint8_t *p, unsigned n_bytes)
{
    uint64_t v = 0;
    while (n_bytes--) v = v << 8 | p[n_bytes];
    return v;
}

static int read_u32(struct reader *r, uint32_t *v)
{
    const uint8_t *p = NULL;
    int rc = take(r, 4, &p);
    if (rc == SUR_OK) *v = (uint32_t)little(p, 4);
    return rc;
}

static int read_u64(struct reader *r, uint64_t *v)
{
    const uint8_t *p = NULL;
    int rc = take(r, 8, &p);
    if (rc == SUR_OK) *v = little(p, 8);
    return rc;
}

static int read_string(struct reader *r, uint64_t *n, const uint8_t **text)
{
    int rc = read_u64(r, n);
    return rc == SUR_OK ? take(r, *n, text) : rc;
}

/* A key's or a tensor's name. */
static int read_name(struct reader *r, const char *what, const char **name, size_t *n_bytes)
{
    uint64_t n;
    int rc = read_u64(r, &n);
    if (rc != SUR_OK) return rc;
    const uint8_t *text = NULL;
    if (n > 0 && n <= MAX_NAME_BYTES && (rc = take(r, n, &text)) != SUR_OK) return rc;
    if (!text || memchr(text, 0, (size_t)n))
        return sur_fail(SUR_ERR_MODEL, "%s: the name of %s must have 1 to %d bytes, none of them 0", r->file->name,
                        what, MAX_NAME_BYTES);
    *name = (const char *)text;
    *n_bytes = (size_t)n;
    return SUR_OK;
}

static int read_array(struct reader *r, struct sur_gguf_key *key)
{
    uint32_t type;
    int rc = read_u32(r, &type);
    if (rc == SUR_OK) rc = read_u64(r, &key->n);
    if (rc != SUR_OK) return rc;
    if (type >= N_VALUE_TYPES) return fail_name(r->file, key->name, key->name_bytes, "its type is not known");
    if (type == SUR_GGUF_ARRAY) return fail_name(r->file, key->name, key->name_bytes, "an array of arrays");
    if (key->n > MAX_ELEMENTS) return fail_name(r->file, key->name, key->name_bytes, "more than 2^22 elements");
    key->array = true;
    key->type = type;
    key->data = r->at;
    const uint8_t *p = NULL;
    if (type != SUR_GGUF_STRING) return take(r, key->n * values[type].bytes, &p);
    for (uint64_t i = 0, n; i < key->n; i++)
        if ((rc = read_string(r, &n, &p)) != SUR_OK) return rc;
    return SUR_OK;
}

static int read_key(struct reader *r, struct sur_gguf_key *key)
{
    uint32_t type;
    key->begin = r->at;
    int rc = read_name(r, "a key", &key->name, &key->name_bytes);
    if (rc == SUR_OK) rc = read_u32(r, &type);
    if (rc != SUR_OK) return rc;
    if (type >= N_VALUE_TYPES) return fail_name(r->file, key->name, key->name_bytes, "its type is not known");
    key->type = type;
    key->n = 1;
    if (type == SUR_GGUF_ARRAY)
        rc = read_array(r, key);
    else if (type == SUR_GGUF_STRING)
        rc = read_string(r, &key->n, &key->data);
    else
        rc = take(r, values[type].bytes, &key->data);
    key->end = r->at;
    return rc;
}

static int read_keys(struct reader *r, uint64_t n)
{
    struct sur_gguf *f = r->file;
    if (n > MAX_KEYS) return sur_fail(SUR_ERR_MODEL, "%s: %" PRIu64 " keys; at most %d are read", f->name, n, MAX_KEYS);
    f->keys = calloc((size_t)n + 1, sizeof f->keys[0]);
    if (!f->keys) return sur_fail(SUR_ERR_MEMORY, "%s: out of memory", f->name);
    for (uint64_t i = 0; i < n; i++) {
        struct sur_gguf_key *key = &f->keys[i];
        int rc = read_key(r, key);
        if (rc != SUR_OK) return rc;
        for (uint64_t j = 0; j < i; j++)
            if (f->keys[j].name_bytes == key->name_bytes && memcmp(f->keys[j].name, key->name, key->name_bytes) == 0)
                return fail_name(f, key->name, key->name_bytes, "stands twice");
        f->n_keys++;
    }
    return SUR_OK;
}

/* Sizes of a tensor whose type is read: n_bytes = product of the shape in blocks, without overflow. */
static int measure(const struct sur_gguf *f, struct sur_tensor *t, const char *name, size_t n)
{
    uint64_t block = (uint64_t)sur_block_values(t->type), n_bytes = sur_block_bytes(t->type);
    uint64_t cols = t->n_dims ? (uint64_t)t->shape[t->n_dims - 1] : 1;
    if (cols % block) {
        char text[96];
        snprintf(text, sizeof text, "rows of %" PRIu64 " values cannot be %s, whose blocks have %" PRIu64, cols,
                 t->type_name, block);
        return fail_name(f, name, n, text);
    }
    if (__builtin_mul_overflow(n_bytes, cols / block, &n_bytes)) n_bytes = UINT64_MAX;
    for (int i = 0; i + 1 < t->n_dims; i++)
        if (__builtin_mul_overflow(n_bytes, (uint64_t)t->shape[i], &n_bytes)) n_bytes = UINT64_MAX;
    t->n_bytes = n_bytes;
    return SUR_OK;
}

/* Reads the header's entry of a tensor; its data is located once the end of the header is known. */
static int read_tensor(struct reader *r, struct sur_tensor *t, const char **name, size_t *name_bytes, uint64_t *offset)
{
    uint32_t n_dims, type;
    int rc = read_name(r, "a tensor", name, name_bytes);
    if (rc == SUR_OK) rc = read_u32(r, &n_dims);
    if (rc != SUR_OK) return rc;
    if (n_dims > MAX_DIMS) return fail_name(r->file, *name, *name_bytes, "more than 4 dimensions");
    t->n_dims = (int)n_dims;
    for (int i = t->n_dims - 1; i >= 0; i--) { /* the file lists columns first */
        uint64_t size;
        if ((rc = read_u64(r, &size)) != SUR_OK) return rc;
        if (size > INT64_MAX) return fail_name(r->file, *name, *name_bytes, "a dimension passes 2^63");
        t->shape[i] = (int64_t)size;
    }
    rc = read_u32(r, &type);
    if (rc == SUR_OK) rc = read_u64(r, offset);
    if (rc != SUR_OK) return rc;
    bool known = type < N_TENSOR_TYPES && tensor_types[type].name[0];
    t->type = known ? tensor_types[type].type : OTHER;
    t->type_name = known ? tensor_types[type].name : "of an unknown type";
    return t->type == OTHER ? SUR_OK : measure(r->file, t, *name, *name_bytes);
}

/* Reads the same bytes twice: first to check everything and to measure the names, then to store them. */
static int read_tensors(struct reader *r, uint64_t n, uint64_t *offsets)
{
    struct sur_gguf *f = r->file;
    const uint8_t *start = r->at;
    char *to = NULL;
    for (int keep = 0; keep < 2; keep++) {
        size_t all = 0;
        r->at = start;
        for (uint64_t i = 0; i < n; i++) {
            struct sur_tensor t = {.n_dims = 0};
            const char *name;
            size_t name_bytes;
            int rc = read_tensor(r, &t, &name, &name_bytes, &offsets[i]);
            if (rc != SUR_OK) return rc;
            all += name_bytes + 1;
            if (!keep) continue;
            t.name = memcpy(to, name, name_bytes);
            to[name_bytes] = 0;
            to += name_bytes + 1;
            f->tensors[f->n++] = t;
        }
        if (keep) break;
        f->tensors = calloc((size_t)n + 1, sizeof f->tensors[0]);
        f->names = to = malloc(all + 1);
        if (!f->tensors || !f->names) return sur_fail(SUR_ERR_MEMORY, "%s: out of memory", f->name);
    }
    return SUR_OK;
}

static int read_alignment(const struct sur_gguf *f, uint64_t *alignment)
{
    const struct sur_gguf_key *key = sur_gguf_key(f, "general.alignment");
    int64_t v = 0;
    *alignment = 32;
    if (!key) return SUR_OK;
    if (key->array || !sur_gguf_element(key, 0, &v) || v < 8 || v > MAX_ALIGNMENT || v & (v - 1))
        return fail_key(f, "general.alignment", "must be a power of two from 8 to 2^20");
    *alignment = (uint64_t)v;
    return SUR_OK;
}

static int place_tensors(struct sur_gguf *f, const uint64_t *offsets, const uint8_t *data, uint64_t n_bytes,
                         uint64_t alignment)
{
    for (size_t i = 0; i < f->n; i++) {
        struct sur_tensor *t = &f->tensors[i];
        if (offsets[i] % alignment) return fail_key(f, t->name, "its offset is not aligned");
        if (offsets[i] > n_bytes || t->n_bytes > n_bytes - offsets[i]) {
            char text[128];
            snprintf(text, sizeof text,
                     "%" PRIu64 " bytes at offset %" PRIu64 ", but the file holds %" PRIu64 " bytes of data",
                     t->n_bytes, offsets[i], n_bytes);
            return fail_key(f, t->name, text);
        }
        t->data = data + offsets[i];
    }
    const char *why;
    const struct sur_tensor *bad = sur_tensors_sort(f->tensors, f->n, &why);
    return bad ? fail_key(f, bad->name, why) : SUR_OK;
}

static int read_header(struct reader *r, uint64_t n_bytes)
{
    struct sur_gguf *f = r->file;
    uint32_t magic, version;
    uint64_t n_tensors, n_keys, alignment;
    int rc = read_u32(r, &magic);
    if (rc == SUR_OK && magic != 0x46554747) return sur_fail(SUR_ERR_MODEL, "%s: not a GGUF file", f->name);
    if (rc == SUR_OK) rc = read_u32(r, &version);
    if (rc == SUR_OK && version != VERSION)
        return sur_fail(SUR_ERR_MODEL, "%s: GGUF version %" PRIu32 "%s; version %d is read", f->name, version,
                        version << 16 ? "" : " (or its bytes are in the other order)", VERSION);
    if (rc == SUR_OK) rc = read_u64(r, &n_tensors);
    if (rc == SUR_OK) rc = read_u64(r, &n_keys);
    if (rc == SUR_OK) rc = read_keys(r, n_keys);
    if (rc == SUR_OK) rc = read_alignment(f, &alignment);
    if (rc != SUR_OK) return rc;
    if (n_tensors > MAX_TENSORS)
        return sur_fail(SUR_ERR_MODEL, "%s: %" PRIu64 " tensors; at most %d are read", f->name, n_tensors, MAX_TENSORS);
    uint64_t *offsets = calloc((size_t)n_tensors + 1, sizeof *offsets);
    if (!offsets) return sur_fail(SUR_ERR_MEMORY, "%s: out of memory", f->name);
    rc = read_tensors(r, n_tensors, offsets);
    uint64_t data = ((uint64_t)(r->at - r->begin) + alignment - 1) / alignment * alignment;
    if (data > n_bytes) data = n_bytes; /* nothing behind the header */
    if (rc == SUR_OK) rc = place_tensors(f, offsets, r->begin + data, n_bytes - data, alignment);
    free(offsets);
    return rc;
}

int sur_gguf_parse(struct sur_gguf **file, const char *name, const void *data, uint64_t n_bytes)
{
    struct sur_gguf *f = calloc(1, sizeof *f);
    *file = NULL;
    if (!f) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    sur_utf8_clean(f->name, sizeof f->name, name, strlen(name));
    struct reader r = {f, data, data,
                       (const uint8_t *)data + (n_bytes < MAX_HEADER_BYTES ? n_bytes : MAX_HEADER_BYTES)};
    int rc = read_header(&r, n_bytes);
    if (rc != SUR_OK) sur_gguf_close(&f);
    *file = f;
    return rc;
}

bool sur_gguf_is(const char *path)
{
    char magic[4];
    struct stat st;
    /* O_NONBLOCK: a FIFO of that name must not be waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    bool is = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && pread(fd, magic, 4, 0) == 4 &&
              memcmp(magic, "GGUF", 4) == 0;
    if (fd >= 0) close(fd);
    return is;
}

int sur_gguf_open(struct sur_gguf **file, const char *path)
{
    struct sur_map map;
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    *file = NULL;
    int rc = sur_map_open(&map, path, (uint64_t)1 << 48);
    if (rc != SUR_OK) return rc;
    rc = sur_gguf_parse(file, name, map.data, map.n_bytes);
    if (rc == SUR_OK)
        (*file)->map = map;
    else
        sur_map_close(&map);
    return rc;
}

void sur_gguf_close(struct sur_gguf **file)
{
    if (!*file) return;
    sur_map_close(&(*file)->map);
    free((*file)->keys);
    free((*file)->tensors);
    free((*file)->names);
    free(*file);
    *file = NULL;
}

/* ---- keys and tensors ---- */

const char *sur_gguf_name(const struct sur_gguf *f)
{
    return f->name;
}

size_t sur_gguf_n_keys(const struct sur_gguf *f)
{
    return f->n_keys;
}

const struct sur_gguf_key *sur_gguf_key_at(const struct sur_gguf *f, size_t i)
{
    return &f->keys[i];
}

const struct sur_gguf_key *sur_gguf_key(const struct sur_gguf *f, const char *name)
{
    for (size_t i = 0; i < f->n_keys; i++)
        if (f->keys[i].name_bytes == strlen(name) && memcmp(f->keys[i].name, name, strlen(name)) == 0)
            return &f->keys[i];
    return NULL;
}

size_t sur_gguf_n_tensors(const struct sur_gguf *f)
{
    return f->n;
}

const struct sur_tensor *sur_gguf_tensor(const struct sur_gguf *f, const char *name)
{
    return sur_tensors_find(f->tensors, f->n, name);
}

bool sur_gguf_element(const struct sur_gguf_key *key, uint64_t i, int64_t *value)
{
    static const bool is_signed[N_VALUE_TYPES] = {
        [SUR_GGUF_I8] = true, [SUR_GGUF_I16] = true, [SUR_GGUF_I32] = true, [SUR_GGUF_I64] = true};
    if (key->type == SUR_GGUF_F32 || key->type == SUR_GGUF_F64 || key->type == SUR_GGUF_BOOL ||
        key->type == SUR_GGUF_STRING)
        return false;
    unsigned bytes = values[key->type].bytes, unused = 64 - 8 * bytes;
    uint64_t v = little(key->data + i * bytes, bytes);
    if (!is_signed[key->type] && v > INT64_MAX) return false;
    *value = is_signed[key->type] ? (int64_t)(v << unused) >> unused : (int64_t)v;
    return true;
}

static bool is_number(const struct sur_gguf_key *key, double *value)
{
    int64_t whole;
    uint64_t bits;
    if (key->array) return false;
    if (key->type == SUR_GGUF_F64) {
        bits = little(key->data, 8);
        memcpy(value, &bits, sizeof bits);
        return true;
    }
    if (key->type != SUR_GGUF_F32) {
        bool is = sur_gguf_element(key, 0, &whole);
        if (is) *value = (double)whole;
        return is;
    }
    uint32_t u = (uint32_t)little(key->data, 4);
    float f;
    memcpy(&f, &u, sizeof f);
    *value = (double)f;
    for (int digits = 6; isfinite(f) && digits <= 9; digits++) { /* nine are always enough */
        char text[32];
        snprintf(text, sizeof text, "%.*g", digits, (double)f);
        *value = strtod(text, NULL);
        if ((float)*value == f) break;
    }
    return true;
}

int sur_gguf_int(const struct sur_gguf *f, const char *key, int min, int max, int *value)
{
    const struct sur_gguf_key *k = sur_gguf_key(f, key);
    char text[80];
    int64_t v = 0;
    if (!k) return fail_key(f, key, "is missing");
    if (k->array || !sur_gguf_element(k, 0, &v) || v < min || v > max) {
        snprintf(text, sizeof text, "must be a whole number from %d to %d", min, max);
        return fail_key(f, key, text);
    }
    *value = (int)v;
    return SUR_OK;
}

int sur_gguf_double(const struct sur_gguf *f, const char *key, double min, double max, double *value)
{
    const struct sur_gguf_key *k = sur_gguf_key(f, key);
    char text[80];
    double v;
    if (!k) return fail_key(f, key, "is missing");
    if (!is_number(k, &v) || !(v >= min && v <= max)) {
        snprintf(text, sizeof text, "must be a number from %g to %g", min, max);
        return fail_key(f, key, text);
    }
    *value = v;
    return SUR_OK;
}

int sur_gguf_may_be_string(const struct sur_gguf *f, const char *key, const char *wanted)
{
    const struct sur_gguf_key *k = sur_gguf_key(f, key);
    char text[80];
    if (!k || (!k->array && k->type == SUR_GGUF_STRING && k->n == strlen(wanted) && !memcmp(k->data, wanted, k->n)))
        return SUR_OK;
    snprintf(text, sizeof text, "must be \"%s\"", wanted);
    return fail_key(f, key, text);
}

int sur_gguf_may_be_number(const struct sur_gguf *f, const char *key, double wanted)
{
    const struct sur_gguf_key *k = sur_gguf_key(f, key);
    char text[80];
    double v;
    if (!k || (is_number(k, &v) && v == wanted)) return SUR_OK;
    snprintf(text, sizeof text, "must be %g", wanted);
    return fail_key(f, key, text);
}

int sur_gguf_may_be_bool(const struct sur_gguf *f, const char *key, bool wanted)
{
    const struct sur_gguf_key *k = sur_gguf_key(f, key);
    if (!k || (!k->array && k->type == SUR_GGUF_BOOL && k->data[0] == wanted)) return SUR_OK;
    return fail_key(f, key, wanted ? "must be true" : "must be false");
}
