/* Buffers of floats that are counted, allocated and freed together. Each is allocated on its own, so that tools find an
 * access past its end. */
#ifndef SUR_CPU_BUFFERS_H
#define SUR_CPU_BUFFERS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

struct sur_cpu_buffer {
    float **at;
    uint64_t n; /* floats */
};

static inline uint64_t sur_cpu_buffers_bytes(const struct sur_cpu_buffer *buffers, int n)
{
    uint64_t floats = 0;
    for (int i = 0; i < n; i++) floats += buffers[i].n;
    return floats * sizeof(float);
}

/* Zeroed. False: not enough memory; free them all the same. */
static inline bool sur_cpu_buffers_allocate(const struct sur_cpu_buffer *buffers, int n)
{
    bool all = true;
    for (int i = 0; i < n; i++) all &= (*buffers[i].at = calloc(buffers[i].n, sizeof(float))) != NULL;
    return all;
}

static inline void sur_cpu_buffers_free(const struct sur_cpu_buffer *buffers, int n)
{
    for (int i = 0; i < n; i++) free(*buffers[i].at);
}

#endif
