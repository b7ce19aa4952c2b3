#include "cpu/rings.h"

#include <stdlib.h>

#include "util/error.h"
#include "util/half.h"

static int blocks(const struct sur_tower *s, int more)
{
    return (int)(((int64_t)s->window + more + SUR_KEY_BLOCK - 1) / SUR_KEY_BLOCK);
}

/* Of the values, and no less than of the keys. Sizes of a model are below 2^20 (params.c), so that no product here
 * passes 64 bits. */
static uint64_t bytes_of(const struct sur_tower *s, enum sur_kv_type type, int more, bool keys)
{
    const uint64_t width = (uint64_t)(keys ? s->head_dim : sur_attend_v_stride(s->head_dim));
    return (uint64_t)s->n_layers * (uint64_t)s->n_kv_heads * (type == SUR_KV_FP16 ? 2 : 4) * (uint64_t)blocks(s, more) *
           SUR_KEY_BLOCK * width;
}

uint64_t sur_cpu_rings_bytes(const struct sur_tower *s, enum sur_kv_type type, int more)
{
    const uint64_t k = bytes_of(s, type, more, true), v = bytes_of(s, type, more, false);
    return v < UINT64_C(1) << 46 ? k + v : 0;
}

int sur_cpu_rings_init(struct sur_cpu_rings *r, const struct sur_tower *s, enum sur_kv_type type, int more)
{
    r->shape = s;
    r->type = type;
    r->n_blocks = blocks(s, more);
    r->v_stride = sur_attend_v_stride(s->head_dim);
    if (!sur_cpu_rings_bytes(s, type, more)) return sur_fail(SUR_ERR_MEMORY, "the model's windows are too large");
    /* The system gives the rings' pages when a step first writes them, so that a short session does not hold the 0.9 GB
     * of a whole window. At the published size that is 26 faults of 1.5 us per step, 40 us of its 80 ms; in the first
     * step of every 64, which begins a block of each head's keys, about 1,000 faults, 1.6 ms. It ends when the ring is
     * full, after 11 minutes. Huge pages would be worse: a head's ring is one of them, and the first step would touch
     * them all. */
    r->k = calloc(bytes_of(s, type, more, true), 1);
    r->v = calloc(bytes_of(s, type, more, false), 1);
    return r->k && r->v ? SUR_OK : sur_fail(SUR_ERR_MEMORY, "not enough memory for a session's keys and values");
}

void sur_cpu_rings_finish(struct sur_cpu_rings *r)
{
    free(r->k);
    free(r->v);
}

static inline void write_one(char *at, size_t i, float f, enum sur_kv_type type)
{
    if (type == SUR_KV_FP16)
        ((uint16_t *)(void *)at)[i] = sur_f32_to_fp16(f);
    else
        ((float *)(void *)at)[i] = f;
}

void sur_cpu_rings_put(const struct sur_cpu_rings *r, bool keys, int layer, int64_t first, const float *x,
                       size_t stride, int n, int row0, int row1)
{
    const int d = r->shape->head_dim;
    const size_t width = (size_t)(keys ? d : r->v_stride);
    for (int row = row0, end; row < row1; row = end) { /* one head at a time */
        const int head = row / d;
        char *at = (keys ? r->k : r->v) + sur_cpu_rings_at(r, keys, layer, head);
        end = row1 < (head + 1) * d ? row1 : (head + 1) * d;
        for (int c = 0; c < n; c++) {
            const int64_t position = first + c;
            const size_t slot = (size_t)(position % SUR_KEY_BLOCK),
                         block = (size_t)(position / SUR_KEY_BLOCK % r->n_blocks) * SUR_KEY_BLOCK * width;
            size_t e = (size_t)(row - head * d);
            for (int i = row; i < end; i++, e++)
                write_one(at, block + (keys ? e * SUR_KEY_BLOCK + slot : slot * width + e),
                          x[(size_t)c * stride + (size_t)(i - row0)], r->type);
        }
    }
}

void sur_cpu_rings_randomize(const struct sur_cpu_rings *r, int64_t end)
{
    const struct sur_tower *s = r->shape;
    const int kv_dim = s->n_kv_heads * s->head_dim;
    for (int64_t at = end > s->window ? end - s->window : 0; at < end; at++) {
        uint32_t x = (uint32_t)at * 2654435761u;
        for (int layer = 0; layer < s->n_layers; layer++)
            for (int i = 0; i < 2 * kv_dim; i++) {
                x = x * 1664525u + 1013904223u;
                const float f = (float)(int32_t)x * 0x1p-31f;
                const bool keys = i < kv_dim;
                const int row = keys ? i : i - kv_dim;
                sur_cpu_rings_put(r, keys, layer, at, &f, 0, 1, row, row + 1);
            }
    }
}
