/* The workers of the CPU backend. They belong to the process: all pools share them, and one parallel region runs at a
 * time, in the order of asking (a ticket lock), so that the threads of several sessions and models neither starve each
 * other nor compete for the cores. A pool only says how many of the workers its regions use. Workers spin 50 us for
 * the next region, then sleep. They exist while there is a pool. */
#ifndef SUR_CPU_POOL_H
#define SUR_CPU_POOL_H

struct sur_pool;

enum { SUR_POOL_MAX = 1024 }; /* threads */

/* part and n_parts: which share of the work, of how many; the caller is part 0. */
typedef void (*sur_pool_fn)(void *arg, int part, int n_parts);

/* n_threads, the caller's included: 1 to SUR_POOL_MAX. Any thread may create, run and destroy. SUR_ERR_MEMORY: no
 * memory, or a worker could not be started. SUR_ERR_ARGUMENT. */
int sur_pool_create(struct sur_pool **pool, int n_threads);
void sur_pool_destroy(struct sur_pool **pool);
int sur_pool_size(const struct sur_pool *pool);
/* Runs fn once a part and returns when all parts are done. Any thread. Not from inside a region. */
void sur_pool_run(struct sur_pool *pool, sur_pool_fn fn, void *arg);
/* In the child of a fork, which has none of the workers: forgets them. Pools made before must not be used there. */
void sur_pool_forget(void);

/* The share of n items, in units of `unit`, that a part has: [*begin, *end). */
static inline void sur_pool_share(int n, int unit, int part, int n_parts, int *begin, int *end)
{
    long long units = (n + unit - 1) / unit, b = units * part / n_parts * unit, e = units * (part + 1) / n_parts * unit;
    *begin = (int)(b < n ? b : n);
    *end = (int)(e < n ? e : n);
}

#endif
