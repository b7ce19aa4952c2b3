/* A lock-free ring of float samples: one producer thread, one consumer thread.
 *
 * The two counters only grow; the producer publishes with release what the consumer reads with acquire, and the
 * other way round for the space. Neither side blocks, allocates or makes a system call. */
#ifndef SUR_AUDIO_RING_H
#define SUR_AUDIO_RING_H

#include <stddef.h>
#include <stdint.h>

struct sur_ring;

/* capacity is rounded up to a power of two. SUR_OK, or SUR_ERR_MEMORY without an error line: the library and the
 * program each keep their own. */
int sur_ring_create(struct sur_ring **ring, size_t capacity);
void sur_ring_destroy(struct sur_ring **ring);
size_t sur_ring_capacity(const struct sur_ring *ring); /* either side: samples that it holds */
/* Producer. Space for writing without copying: *data points at the first free part, which holds the returned number
 * of samples before the ring's end (ask again after the commit for the rest). */
size_t sur_ring_reserve(struct sur_ring *ring, float **data);
void sur_ring_commit(struct sur_ring *ring, size_t n); /* producer: publishes n of the reserved samples */
/* Consumer. The oldest samples, contiguous; n is what may be read at data. */
size_t sur_ring_peek(struct sur_ring *ring, const float **data);
void sur_ring_drop(struct sur_ring *ring, size_t n);    /* consumer: gives back the oldest n */
uint64_t sur_ring_written(const struct sur_ring *ring); /* either side: samples ever committed */
uint64_t sur_ring_read(const struct sur_ring *ring);    /* either side: samples ever dropped */

#endif
