/* The worker threads of the CPU backend. They belong to the process: all pools share them, and one parallel region runs
 * at a time, first come, first served (a ticket lock), so that the threads of several sessions and models neither
 * starve one another nor compete for the cores. A pool only states how many of the workers its regions use. Workers
 * spin for 50 us waiting for the next region, then sleep. They exist as long as any pool does.
 *
 * Thread-safety: any thread may create, run and destroy. */
#ifndef SUR_CPU_POOL_H
#define SUR_CPU_POOL_H

struct sur_pool;

enum { SUR_POOL_MAX = 1024 }; /* threads */

/* Computes part number `part` of n_parts; the caller's thread runs part 0. */
typedef void (*sur_pool_fn)(void *arg, int part, int n_parts);

/* n_threads: 1 to SUR_POOL_MAX, including the caller. SUR_ERR_MEMORY: no memory, or a worker could not be started.
 * SUR_ERR_ARGUMENT. */
int sur_pool_create(struct sur_pool **pool, int n_threads);
void sur_pool_destroy(struct sur_pool **pool);
int sur_pool_size(const struct sur_pool *pool);
/* Runs fn once per part and returns when all parts are done. It must not be called from inside a region. */
void sur_pool_run(struct sur_pool *pool, sur_pool_fn fn, void *arg);
/* For the child of a fork, which has no workers: forgets them. Pools of the parent must not be used there. */
void sur_pool_forget(void);

/* Computes the share of a part of n items, in whole units of `unit` items: [*begin, *end). */
static inline void sur_pool_share(int n, int unit, int part, int n_parts, int *begin, int *end)
{
    long long units = (n + unit - 1) / unit, b = units * part / n_parts * unit, e = units * (part + 1) / n_parts * unit;
    *begin = (int)(b < n ? b : n);
    *end = (int)(e < n ? e : n);
}

#endif
