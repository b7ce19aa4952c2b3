/* A GGUF file, version 3, mapped read-only: keys with values, and tensors. The header is not trusted: its bounds
 * (docs/contract.md) are checked before anything is allocated in proportion to them.
 *
 * Ownership: keys, values and tensors point into the map and are valid until close.
 * Thread-safety: any thread may read after open.
 * Errors: SUR_ERR_MODEL or SUR_ERR_MEMORY, with a line that begins with the file's name. */
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
    const uint8_t *data;        /* the value; in an array of strings, a 64-bit length precedes each string */
    const uint8_t *begin, *end; /* the whole entry in the file, from the length of its name on */
};

struct sur_gguf;

/* Returns whether path is a regular file that begins with GGUF's magic number. */
bool sur_gguf_is(const char *path);
int sur_gguf_open(struct sur_gguf **file, const char *path);
void sur_gguf_close(struct sur_gguf **file);
/* For tests: parses memory, aligned to 8 bytes, that must be valid until close. name begins error lines. */
int sur_gguf_parse(struct sur_gguf **file, const char *name, const void *data, uint64_t n_bytes);

const char *sur_gguf_name(const struct sur_gguf *file); /* the last part of its path, made printable */
size_t sur_gguf_n_keys(const struct sur_gguf *file);
const struct sur_gguf_key *sur_gguf_key_at(const struct sur_gguf *file, size_t i);      /* in the file's order */
const struct sur_gguf_key *sur_gguf_key(const struct sur_gguf *file, const char *name); /* NULL: there is none */
size_t sur_gguf_n_tensors(const struct sur_gguf *file);
const struct sur_tensor *sur_gguf_tensor(const struct sur_gguf *file, const char *name); /* NULL: there is none */
/* Returns GGUF's number for a weight type. */
uint32_t sur_gguf_tensor_type(enum sur_weight_type type);

/* Values by key. A missing key, another type or a value out of range is an error whose line names the key. */
int sur_gguf_int(const struct sur_gguf *file, const char *key, int min, int max, int *value); /* any integer type */
/* F32 or F64. An F32 is read as the shortest decimal number that rounds to it, so 1e-5 is read as 1e-5. */
int sur_gguf_double(const struct sur_gguf *file, const char *key, double min, double max, double *value);
/* Checks that the key is missing or has this value, which the architecture requires. */
int sur_gguf_may_be_string(const struct sur_gguf *file, const char *key, const char *wanted);
int sur_gguf_may_be_number(const struct sur_gguf *file, const char *key, double wanted);
int sur_gguf_may_be_bool(const struct sur_gguf *file, const char *key, bool wanted);
/* Reads an integer element; false: it is not an integer. */
bool sur_gguf_element(const struct sur_gguf_key *key, uint64_t i, int64_t *value);

#endif
