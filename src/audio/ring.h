/* A lock-free ring of float samples.
 *
 * Threads: one producer, one consumer. RT safe after create: neither blocks, allocates or makes a system call. The
 * producer publishes samples with release and the consumer acquires them; for free space it is the reverse. */
#ifndef SUR_AUDIO_RING_H
#define SUR_AUDIO_RING_H

#include <stddef.h>
#include <stdint.h>

struct sur_ring;

/* capacity is rounded up to a power of two. SUR_ERR_MEMORY without an error line, because the library and the program,
 * which both use this file, each keep their own. */
int sur_ring_create(struct sur_ring **ring, size_t capacity);
void sur_ring_destroy(struct sur_ring **ring);
size_t sur_ring_capacity(const struct sur_ring *ring); /* either side: samples that fit */
/* Producer. Points *data at free space and returns how many samples fit there. Space may wrap: commit, then call again
 * for the rest. */
size_t sur_ring_reserve(struct sur_ring *ring, float **data);
void sur_ring_commit(struct sur_ring *ring, size_t n); /* producer: publishes n of the reserved samples */
/* Consumer. Points *data at the oldest samples and returns how many of them are contiguous. */
size_t sur_ring_peek(struct sur_ring *ring, const float **data);
void sur_ring_drop(struct sur_ring *ring, size_t n);    /* consumer: removes the oldest n */
uint64_t sur_ring_written(const struct sur_ring *ring); /* either side: samples ever committed */
uint64_t sur_ring_read(const struct sur_ring *ring);    /* either side: samples ever dropped */

#endif
