/* A GGUF file, version 3, mapped read-only: keys with values, and tensors. The header is hostile until proven
 * otherwise: its bounds (docs/contract.md) are checked before anything is allocated in proportion to what it says.
 * Keys, values and tensors point into the map and live as long as it. Any thread may read after open.
 *
 * Every failure is SUR_ERR_MODEL (or SUR_ERR_MEMORY) with one line that begins with the file's name. */
#ifndef SUR_MODEL_GGUF_H
#define SUR_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/tensor.h"

enum sur_gguf_type { /* of values, as the file numbers them */
                     SUR_GGUF_U8,
                     SUR_GGUF_I8,
                     SUR_GGUF_U16,
                     SUR_GGUF_I16,
                     SUR_GGUF_U32,
                     SUR_GGUF_I32,
                     SUR_GGUF_F32,
                     SUR_GGUF_BOOL,
                     SUR_GGUF_STRING,
                     SUR_GGUF_ARRAY,
                     SUR_GGUF_U64,
                     SUR_GGUF_I64,
                     SUR_GGUF_F64,
};

struct sur_gguf_key {
    const char *name; /* not terminated */
    size_t name_bytes;
    enum sur_gguf_type type; /* of the value, or of an array's elements */
    bool array;
    uint64_t n;                 /* elements of an array; bytes of a string; else 1 */
    const uint8_t *data;        /* the value; of an array of strings each with its length (64 bits) before it */
    const uint8_t *begin, *end; /* all of it as it stands in the file, from the length of its name on */
};

struct sur_gguf;

/* Whether path is a regular file that begins with GGUF's magic number. */
bool sur_gguf_is(const char *path);
int sur_gguf_open(struct sur_gguf **file, const char *path);
void sur_gguf_close(struct sur_gguf **file);
/* The same from memory (aligned to 8 bytes), which must live as long as *file: for tests. name begins error lines. */
int sur_gguf_parse(struct sur_gguf **file, const char *name, const void *data, uint64_t n_bytes);

const char *sur_gguf_name(const struct sur_gguf *file); /* the last part of its path, made printable */
size_t sur_gguf_n_keys(const struct sur_gguf *file);
const struct sur_gguf_key *sur_gguf_key_at(const struct sur_gguf *file, size_t i);      /* in the file's order */
const struct sur_gguf_key *sur_gguf_key(const struct sur_gguf *file, const char *name); /* NULL: there is none */
size_t sur_gguf_n_tensors(const struct sur_gguf *file);
const struct sur_tensor *sur_gguf_tensor(const struct sur_gguf *file, const char *name); /* NULL: there is none */
/* Which number GGUF gives to a type of weights. */
uint32_t sur_gguf_tensor_type(enum sur_weight_type type);

/* Values by key. A missing key, another type and a value out of range fail with a line that names the key. */
int sur_gguf_int(const struct sur_gguf *file, const char *key, int min, int max, int *value); /* any integer type */
/* F32 or F64. A value in F32 stands for the shortest decimal number that rounds to it: 1e-5 is 1e-5. */
int sur_gguf_double(const struct sur_gguf *file, const char *key, double min, double max, double *value);
/* Checks that the key has this value: what the architecture leaves no choice about. A missing key is right, too. */
int sur_gguf_may_be_string(const struct sur_gguf *file, const char *key, const char *wanted);
int sur_gguf_may_be_number(const struct sur_gguf *file, const char *key, double wanted);
int sur_gguf_may_be_bool(const struct sur_gguf *file, const char *key, bool wanted);
/* The number that an integer element holds; false: it is none. */
bool sur_gguf_element(const struct sur_gguf_key *key, uint64_t i, int64_t *value);

#endif
