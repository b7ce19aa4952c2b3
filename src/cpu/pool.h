/* The process's workers for the CPU backend: one parallel region at a time, in the order of asking (a ticket lock), so
 * that encode and decode threads cannot starve each other. Workers spin 50 us for the next region, then sleep. */
#ifndef SUR_CPU_POOL_H
#define SUR_CPU_POOL_H

struct sur_pool;

/* part and n_parts: which share of the work, of how many; the caller is part 0. */
typedef void (*sur_pool_fn)(void *arg, int part, int n_parts);

/* n_threads, the caller's included: at least 1. SUR_ERR_MEMORY. */
int sur_pool_create(struct sur_pool **pool, int n_threads);
void sur_pool_destroy(struct sur_pool **pool);
int sur_pool_size(const struct sur_pool *pool);
/* Runs fn once a part and returns when all parts are done. Any thread. Not from inside a region. */
void sur_pool_run(struct sur_pool *pool, sur_pool_fn fn, void *arg);

/* The share of n items, in units of `unit`, that a part has: [*begin, *end). */
static inline void sur_pool_share(int n, int unit, int part, int n_parts, int *begin, int *end)
{
    long long units = (n + unit - 1) / unit, b = units * part / n_parts * unit, e = units * (part + 1) / n_parts * unit;
    *begin = (int)(b < n ? b : n);
    *end = (int)(e < n ? e : n);
}

#endif
