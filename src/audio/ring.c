#include "audio/ring.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "surtitle.h"

struct sur_ring {
    /* immutable */
    float *data; /* [capacity] */
    size_t capacity;
    /* The counters never wrap: 2^64 samples are 36 million years. Each on its own cache line, so that the two threads
     * do not pull one line to and fro. */
    _Alignas(64) _Atomic uint64_t written; /* producer: release; consumer: acquire */
    _Alignas(64) _Atomic uint64_t read;    /* consumer: release; producer: acquire */
};

int sur_ring_create(struct sur_ring **ring, size_t capacity)
{
    size_t n = 64;
    while (n < capacity) n *= 2;
    *ring = NULL;
    struct sur_ring *r = aligned_alloc(64, sizeof *r);
    float *data = calloc(n, sizeof *data);
    if (!r || !data) {
        free(r);
        free(data);
        return SUR_ERR_MEMORY;
    }
    r->data = data;
    r->capacity = n;
    atomic_init(&r->written, 0);
    atomic_init(&r->read, 0);
    *ring = r;
    return SUR_OK;
}

void sur_ring_destroy(struct sur_ring **ring)
{
    if (!*ring) return;
    free((*ring)->data);
    free(*ring);
    *ring = NULL;
}

size_t sur_ring_capacity(const struct sur_ring *r)
{
    return r->capacity;
}

size_t sur_ring_reserve(struct sur_ring *r, float **data)
{
    uint64_t written = atomic_load_explicit(&r->written, memory_order_relaxed);
    uint64_t used = written - atomic_load_explicit(&r->read, memory_order_acquire);
    size_t at = written & (r->capacity - 1), to_end = r->capacity - at, space = r->capacity - (size_t)used;
    *data = r->data + at;
    return space < to_end ? space : to_end;
}

void sur_ring_commit(struct sur_ring *r, size_t n)
{
    uint64_t written = atomic_load_explicit(&r->written, memory_order_relaxed);
    atomic_store_explicit(&r->written, written + n, memory_order_release);
}

size_t sur_ring_peek(struct sur_ring *r, const float **data)
{
    uint64_t read = atomic_load_explicit(&r->read, memory_order_relaxed);
    size_t used = (size_t)(atomic_load_explicit(&r->written, memory_order_acquire) - read);
    size_t at = read & (r->capacity - 1), to_end = r->capacity - at;
    *data = r->data + at;
    return used < to_end ? used : to_end;
}

void sur_ring_drop(struct sur_ring *r, size_t n)
{
    uint64_t read = atomic_load_explicit(&r->read, memory_order_relaxed);
    atomic_store_explicit(&r->read, read + n, memory_order_release);
}

uint64_t sur_ring_written(const struct sur_ring *r)
{
    return atomic_load_explicit(&r->written, memory_order_acquire);
}
uint64_t sur_ring_read(const struct sur_ring *r)
{
    return atomic_load_explicit(&r->read, memory_order_acquire);
}
