/* A growing buffer for the parts of a GGUF header.
 *
 * Thread-safety: one thread at a time per buffer.
 * Errors: an append that runs out of memory sets `failed`, and later appends do nothing. */
#ifndef QUANTIZE_BUFFER_H
#define QUANTIZE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer { /* empty if zeroed; the owner frees data */
    uint8_t *data;
    size_t n, room;
    uint64_t n_keys; /* appended */
    bool failed;
};

void buffer_add(struct buffer *b, const void *bytes, size_t n);
void buffer_u32(struct buffer *b, uint32_t v);
void buffer_u64(struct buffer *b, uint64_t v);
void buffer_string(struct buffer *b, const char *text, size_t n); /* preceded by its length */
/* Append a key with its value. */
void buffer_key_u32(struct buffer *b, const char *key, uint32_t v);
void buffer_key_f32(struct buffer *b, const char *key, double v);
void buffer_key_bool(struct buffer *b, const char *key, bool v);
void buffer_key_string(struct buffer *b, const char *key, const char *text);
/* A key with its value as another file has them, n bytes. */
void buffer_key_copy(struct buffer *b, const void *bytes, size_t n);
/* Appends the key of an array; the caller then appends its n elements. type: enum sur_gguf_type. */
void buffer_key_array(struct buffer *b, const char *key, uint32_t type, uint64_t n);

#endif
