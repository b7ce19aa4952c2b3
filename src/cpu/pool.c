#include "cpu/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "util/clock.h"
#include "util/error.h"

enum { SPIN_NS = 50000 };

struct worker {
    struct sur_pool *pool;
    pthread_t thread;
    int part;
};

struct sur_pool {
    /* immutable after create */
    int n_parts, n_started;
    struct worker *workers; /* [n_parts - 1] */
    /* the region: written by its caller before `generation` is released */
    sur_pool_fn fn;
    void *arg;
    atomic_uint generation; /* caller: release; workers: acquire */
    atomic_int busy;        /* workers: release when done; caller: acquire */
    atomic_bool quit;
    /* for sleeping */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    atomic_int asleep;
    /* the ticket lock */
    pthread_mutex_t ticket_mutex;
    pthread_cond_t ticket_turn;
    unsigned next_ticket, serving;
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Waits until the generation is not `seen`; spins first, because the next region usually follows within microseconds.
 */
static unsigned wait_generation(struct sur_pool *p, unsigned seen)
{
    int64_t until = sur_clock_ns() + SPIN_NS;
    unsigned g;
    do {
        for (int i = 0; i < 64; i++) {
            g = atomic_load_explicit(&p->generation, memory_order_acquire);
            if (g != seen) return g;
            relax();
        }
    } while (sur_clock_ns() < until);
    pthread_mutex_lock(&p->mutex);
    atomic_fetch_add(&p->asleep, 1);
    while ((g = atomic_load(&p->generation)) == seen) pthread_cond_wait(&p->wake, &p->mutex);
    atomic_fetch_sub(&p->asleep, 1);
    pthread_mutex_unlock(&p->mutex);
    return g;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct sur_pool *p = w->pool;
    for (unsigned seen = 0;;) {
        seen = wait_generation(p, seen);
        if (atomic_load(&p->quit)) return NULL;
        p->fn(p->arg, w->part, p->n_parts);
        atomic_fetch_sub_explicit(&p->busy, 1, memory_order_release);
    }
}

/* Seq-cst on generation and asleep: either the sleeper sees the new generation, or we see the sleeper. */
static void start_generation(struct sur_pool *p)
{
    atomic_fetch_add(&p->generation, 1);
    if (atomic_load(&p->asleep) == 0) return;
    pthread_mutex_lock(&p->mutex);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->mutex);
}

int sur_pool_create(struct sur_pool **pool, int n_threads)
{
    struct sur_pool *p = *pool = calloc(1, sizeof *p);
    if (!p) return sur_fail(SUR_ERR_MEMORY, "not enough memory for the workers");
    pthread_mutex_init(&p->mutex, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_mutex_init(&p->ticket_mutex, NULL);
    pthread_cond_init(&p->ticket_turn, NULL);
    p->n_parts = n_threads;
    p->workers = calloc((size_t)n_threads, sizeof *p->workers);
    if (!p->workers) {
        sur_pool_destroy(pool);
        return sur_fail(SUR_ERR_MEMORY, "not enough memory for the workers");
    }
    for (int i = 0; i < n_threads - 1; i++) {
        p->workers[i] = (struct worker){.pool = p, .part = i + 1};
        if (pthread_create(&p->workers[i].thread, NULL, work, &p->workers[i])) {
            sur_pool_destroy(pool);
            return sur_fail(SUR_ERR_MEMORY, "cannot start worker %d of %d", i + 1, n_threads - 1);
        }
        p->n_started++;
    }
    return SUR_OK;
}

void sur_pool_destroy(struct sur_pool **pool)
{
    struct sur_pool *p = *pool;
    if (!p) return;
    atomic_store(&p->quit, true);
    start_generation(p);
    for (int i = 0; i < p->n_started; i++) pthread_join(p->workers[i].thread, NULL);
    pthread_mutex_destroy(&p->mutex);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->ticket_mutex);
    pthread_cond_destroy(&p->ticket_turn);
    free(p->workers);
    free(p);
    *pool = NULL;
}

int sur_pool_size(const struct sur_pool *p)
{
    return p->n_parts;
}

void sur_pool_run(struct sur_pool *p, sur_pool_fn fn, void *arg)
{
    if (p->n_parts == 1) {
        fn(arg, 0, 1);
        return;
    }
    pthread_mutex_lock(&p->ticket_mutex);
    for (unsigned mine = p->next_ticket++; mine != p->serving;) pthread_cond_wait(&p->ticket_turn, &p->ticket_mutex);
    pthread_mutex_unlock(&p->ticket_mutex);

    p->fn = fn;
    p->arg = arg;
    atomic_store_explicit(&p->busy, p->n_parts - 1, memory_order_relaxed);
    start_generation(p);
    fn(arg, 0, p->n_parts);
    /* A part that was descheduled may take long: give the core away instead of spinning against it. */
    for (int i = 0; atomic_load_explicit(&p->busy, memory_order_acquire) > 0; i++) {
        if (i < 4096)
            relax();
        else
            sched_yield();
    }

    pthread_mutex_lock(&p->ticket_mutex);
    p->serving++;
    pthread_cond_broadcast(&p->ticket_turn);
    pthread_mutex_unlock(&p->ticket_mutex);
}
