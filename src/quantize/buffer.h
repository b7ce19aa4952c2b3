/* Bytes that grow: the header of a GGUF file while it is put together, and what it is put together from. */
#ifndef QUANTIZE_BUFFER_H
#define QUANTIZE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buffer { /* zeroed: empty. data is freed by its owner. */
    uint8_t *data;
    size_t n, room;
    bool failed; /* out of memory: what was added since is lost */
};

void buffer_add(struct buffer *b, const void *bytes, size_t n);
void buffer_u32(struct buffer *b, uint32_t v);
void buffer_u64(struct buffer *b, uint64_t v);
void buffer_string(struct buffer *b, const char *text, size_t n); /* with its length before it */
/* A key with its value. */
void buffer_key_u32(struct buffer *b, const char *key, uint32_t v);
void buffer_key_f32(struct buffer *b, const char *key, double v);
void buffer_key_bool(struct buffer *b, const char *key, bool v);
void buffer_key_string(struct buffer *b, const char *key, const char *text);
/* A key of an array, whose n elements are then to be added. type: enum sur_gguf_type. */
void buffer_key_array(struct buffer *b, const char *key, uint32_t type, uint64_t n);

#endif
