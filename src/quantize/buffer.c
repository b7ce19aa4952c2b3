#include "quantize/buffer.h"

#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"

void buffer_add(struct buffer *b, const void *bytes, size_t n)
{
    if (b->failed) return;
    if (n > b->room - b->n) {
        size_t room = b->room + n > 2 * b->room ? b->room + n + 4096 : 2 * b->room;
        uint8_t *data = realloc(b->data, room);
        if (!data) {
            b->failed = true;
            return;
        }
        b->data = data;
        b->room = room;
    }
    if (n) memcpy(b->data + b->n, bytes, n);
    b->n += n;
}

static void add_little(struct buffer *b, uint64_t v, size_t n)
{
    uint8_t bytes[8];
    for (size_t i = 0; i < n; i++) bytes[i] = (uint8_t)(v >> 8 * i);
    buffer_add(b, bytes, n);
}

void buffer_u32(struct buffer *b, uint32_t v)
{
    add_little(b, v, 4);
}

void buffer_u64(struct buffer *b, uint64_t v)
{
    add_little(b, v, 8);
}

void buffer_string(struct buffer *b, const char *text, size_t n)
{
    buffer_u64(b, n);
    buffer_add(b, text, n);
}

static void add_key(struct buffer *b, const char *key, uint32_t type)
{
    b->n_keys++;
    buffer_string(b, key, strlen(key));
    buffer_u32(b, type);
}

void buffer_key_u32(struct buffer *b, const char *key, uint32_t v)
{
    add_key(b, key, SUR_GGUF_U32);
    buffer_u32(b, v);
}

void buffer_key_f32(struct buffer *b, const char *key, double v)
{
    float f = (float)v;
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    add_key(b, key, SUR_GGUF_F32);
    buffer_u32(b, u);
}

void buffer_key_bool(struct buffer *b, const char *key, bool v)
{
    add_key(b, key, SUR_GGUF_BOOL);
    add_little(b, v, 1);
}

void buffer_key_string(struct buffer *b, const char *key, const char *text)
{
    add_key(b, key, SUR_GGUF_STRING);
    buffer_string(b, text, strlen(text));
}

void buffer_key_copy(struct buffer *b, const void *bytes, size_t n)
{
    b->n_keys++;
    buffer_add(b, bytes, n);
}

void buffer_key_array(struct buffer *b, const char *key, uint32_t type, uint64_t n)
{
    add_key(b, key, SUR_GGUF_ARRAY);
    buffer_u32(b, type);
    buffer_u64(b, n);
}
