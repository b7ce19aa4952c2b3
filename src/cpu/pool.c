#include "cpu/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "util/clock.h"
#include "util/error.h"
#include "util/os_thread.h"

enum { SPIN_NS = 50000, PARTS_BITS = 16 };

struct worker {
    pthread_t thread;
    int part;
    uint64_t seen;       /* the last region that it took part in */
    pthread_cond_t wake; /* with sleep_mutex */
};

struct sur_pool {
    int n_parts;
};

/* The workers of the process. */
static struct {
    /* creating and destroying pools */
    pthread_mutex_t pools_mutex;
    int n_pools, n_workers;
    struct worker workers[SUR_POOL_MAX - 1];
    /* the region: fn and arg are written by its caller before `region` is released, and read by its parts alone */
    sur_pool_fn fn;
    void *arg;
    _Atomic uint64_t region; /* its number << PARTS_BITS | its parts; caller: release; workers: acquire */
    atomic_int busy;         /* workers: release when done; caller: acquire */
    atomic_bool quit;
    /* sleeping */
    pthread_mutex_t sleep_mutex;
    atomic_int asleep;
    /* the ticket lock */
    pthread_mutex_t ticket_mutex;
    pthread_cond_t ticket_turn;
    unsigned next_ticket, serving;
} crew = {.pools_mutex = PTHREAD_MUTEX_INITIALIZER,
          .sleep_mutex = PTHREAD_MUTEX_INITIALIZER,
          .ticket_mutex = PTHREAD_MUTEX_INITIALIZER,
          .ticket_turn = PTHREAD_COND_INITIALIZER};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static inline int parts_of(uint64_t region)
{
    return (int)(region & ((1u << PARTS_BITS) - 1));
}

/* Returns whether a region is new and has a part for this worker. A worker cannot miss such a region, because the
 * region's caller waits for it. */
static inline bool is_mine(const struct worker *w, uint64_t region)
{
    return region != w->seen && w->part < parts_of(region);
}

/* Waits for the next region with a part for this worker; spins first, because it usually follows within microseconds.
 */
static uint64_t wait_region(struct worker *w)
{
    int64_t until = sur_clock_ns() + SPIN_NS;
    uint64_t region;
    do {
        for (int i = 0; i < 64; i++) {
            region = atomic_load_explicit(&crew.region, memory_order_acquire);
            if (is_mine(w, region)) return region;
            relax();
        }
    } while (sur_clock_ns() < until);
    pthread_mutex_lock(&crew.sleep_mutex);
    atomic_fetch_add(&crew.asleep, 1);
    while (!is_mine(w, region = atomic_load(&crew.region))) pthread_cond_wait(&w->wake, &crew.sleep_mutex);
    atomic_fetch_sub(&crew.asleep, 1);
    pthread_mutex_unlock(&crew.sleep_mutex);
    return region;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    for (;;) {
        w->seen = wait_region(w);
        if (atomic_load(&crew.quit)) return NULL;
        crew.fn(crew.arg, w->part, parts_of(w->seen));
        atomic_fetch_sub_explicit(&crew.busy, 1, memory_order_release);
    }
}

/* Seq-cst on region and asleep: either the sleeper sees the new region, or we see the sleeper. Each is woken by itself:
 * workers that this region has no part for stay asleep. */
static void start_region(int n_parts)
{
    uint64_t number = atomic_load_explicit(&crew.region, memory_order_relaxed) >> PARTS_BITS;
    atomic_store(&crew.region, (number + 1) << PARTS_BITS | (uint64_t)n_parts);
    if (atomic_load(&crew.asleep) == 0) return;
    pthread_mutex_lock(&crew.sleep_mutex);
    for (int i = 0; i < n_parts - 1; i++) pthread_cond_signal(&crew.workers[i].wake);
    pthread_mutex_unlock(&crew.sleep_mutex);
}

/* ---- create, destroy ---- */

static int start_workers(int n)
{
    for (; crew.n_workers < n; crew.n_workers++) {
        struct worker *w = &crew.workers[crew.n_workers];
        *w = (struct worker){.part = crew.n_workers + 1, .seen = atomic_load(&crew.region)};
        pthread_cond_init(&w->wake, NULL);
        if (!sur_thread_start(&w->thread, work, w)) continue;
        pthread_cond_destroy(&w->wake);
        return sur_fail(SUR_ERR_MEMORY, "cannot start worker %d of %d", crew.n_workers + 1, n);
    }
    return SUR_OK;
}

static void stop_workers(void)
{
    atomic_store(&crew.quit, true);
    start_region(crew.n_workers + 1);
    for (; crew.n_workers > 0; crew.n_workers--) {
        pthread_join(crew.workers[crew.n_workers - 1].thread, NULL);
        pthread_cond_destroy(&crew.workers[crew.n_workers - 1].wake);
    }
    atomic_store(&crew.quit, false);
}

int sur_pool_create(struct sur_pool **pool, int n_threads)
{
    *pool = NULL;
    if (n_threads < 1 || n_threads > SUR_POOL_MAX)
        return sur_fail(SUR_ERR_ARGUMENT, "%d threads: 1 to %d", n_threads, SUR_POOL_MAX);
    struct sur_pool *p = calloc(1, sizeof *p);
    if (!p) return sur_fail(SUR_ERR_MEMORY, "not enough memory for the workers");
    p->n_parts = n_threads;
    pthread_mutex_lock(&crew.pools_mutex);
    int r = start_workers(n_threads - 1);
    if (!r)
        crew.n_pools++;
    else if (crew.n_pools == 0)
        stop_workers();
    pthread_mutex_unlock(&crew.pools_mutex);
    if (r)
        free(p);
    else
        *pool = p;
    return r;
}

void sur_pool_destroy(struct sur_pool **pool)
{
    if (!*pool) return;
    pthread_mutex_lock(&crew.pools_mutex);
    if (--crew.n_pools == 0) stop_workers();
    pthread_mutex_unlock(&crew.pools_mutex);
    free(*pool);
    *pool = NULL;
}

void sur_pool_forget(void)
{
    pthread_mutex_init(&crew.pools_mutex, NULL);
    pthread_mutex_init(&crew.sleep_mutex, NULL);
    pthread_mutex_init(&crew.ticket_mutex, NULL);
    pthread_cond_init(&crew.ticket_turn, NULL);
    crew.n_pools = crew.n_workers = 0;
    crew.next_ticket = crew.serving = 0;
    atomic_store(&crew.asleep, 0);
    atomic_store(&crew.busy, 0);
}

int sur_pool_size(const struct sur_pool *p)
{
    return p->n_parts;
}

/* ---- run ---- */

void sur_pool_run(struct sur_pool *p, sur_pool_fn fn, void *arg)
{
    if (p->n_parts == 1) {
        fn(arg, 0, 1);
        return;
    }
    pthread_mutex_lock(&crew.ticket_mutex);
    for (unsigned mine = crew.next_ticket++; mine != crew.serving;)
        pthread_cond_wait(&crew.ticket_turn, &crew.ticket_mutex);
    pthread_mutex_unlock(&crew.ticket_mutex);

    crew.fn = fn;
    crew.arg = arg;
    atomic_store_explicit(&crew.busy, p->n_parts - 1, memory_order_relaxed);
    start_region(p->n_parts);
    fn(arg, 0, p->n_parts);
    /* A part that was descheduled may take long: give the core away instead of spinning against it. */
    for (int i = 0; atomic_load_explicit(&crew.busy, memory_order_acquire) > 0; i++) {
        if (i < 4096)
            relax();
        else
            sched_yield();
    }

    pthread_mutex_lock(&crew.ticket_mutex);
    crew.serving++;
    pthread_cond_broadcast(&crew.ticket_turn);
    pthread_mutex_unlock(&crew.ticket_mutex);
}
