/* Measures what the machine can do, in the same process as the work that is compared with it. */
#ifndef BENCH_PROBE_H
#define BENCH_PROBE_H

#include <stddef.h>

struct sur_pool;

struct probe { /* a buffer of random data, larger than the caches, and workers to read it with */
    struct sur_pool *pool;
    char *data;
    size_t n_bytes;
};

/* Allocates n_bytes (a multiple of 4096) and fills them once with random 32-bit patterns. 0, or -1 without memory. */
int probe_init(struct probe *probe, struct sur_pool *pool, size_t n_bytes);
void probe_finish(struct probe *probe);
/* Returns the bytes per second that all workers read together: the fastest of three loops (one stream per worker, four
 * per worker, one stream with prefetch), each run once over the whole buffer. */
double probe_read(struct probe *probe);
/* Returns the fp32 operations per second of all workers together: fused multiply-adds on registers, two operations
 * each. */
double probe_fma(struct probe *probe);

#endif
