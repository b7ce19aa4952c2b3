#include "audio/timeline.h"

#include <stddef.h>

static bool append(struct sur_timeline *t, const struct sur_loss *loss, uint64_t kept)
{
    uint64_t n = atomic_load_explicit(&t->written, memory_order_relaxed);
    uint64_t taken = atomic_load_explicit(&t->taken, memory_order_acquire);
    if (n - taken + kept >= SUR_TIMELINE_LOSSES) return false;
    t->losses[n % SUR_TIMELINE_LOSSES] = *loss;
    atomic_store_explicit(&t->written, n + 1, memory_order_release);
    return true;
}

bool sur_timeline_lose(struct sur_timeline *t, int64_t at, int64_t n, int why)
{
    return append(t, &(struct sur_loss){.at = at, .n = n, .why = why}, 0);
}

bool sur_timeline_fill(struct sur_timeline *t, int64_t at, int64_t n)
{
    return append(t, &(struct sur_loss){.at = at, .filler = n}, 1);
}

static const struct sur_loss *waiting(const struct sur_timeline *t, uint64_t i)
{
    uint64_t n = atomic_load_explicit(&t->taken, memory_order_relaxed) + i;
    return n < atomic_load_explicit(&t->written, memory_order_acquire) ? &t->losses[n % SUR_TIMELINE_LOSSES] : NULL;
}

bool sur_timeline_take(struct sur_timeline *t, int64_t position, struct sur_lost_time *lost)
{
    const struct sur_loss *first = waiting(t, 0), *loss = first;
    if (!first || first->at >= position) return false;
    if (first->filler > 0) loss = waiting(t, 1);
    if (!loss) return false;
    int64_t n = loss->n > first->filler ? loss->n : first->filler;
    lost->t0 = sur_timeline_clock(t, first->at - first->filler);
    lost->t1 = lost->t0 + n;
    lost->why = loss->why;
    t->at = first->at;
    t->ahead = lost->t1 - first->at;
    t->lost += n;
    uint64_t used = loss == first ? 1 : 2;
    atomic_store_explicit(&t->taken, atomic_load_explicit(&t->taken, memory_order_relaxed) + used,
                          memory_order_release);
    return true;
}

int64_t sur_timeline_clock(const struct sur_timeline *t, int64_t position)
{
    const struct sur_loss *next = waiting(t, 0);
    if (next && next->filler > 0 && position > next->at - next->filler) position = next->at - next->filler;
    if (position < t->at) position = t->at;
    return position + t->ahead;
}

int sur_timeline_waiting(const struct sur_timeline *t)
{
    return (int)(atomic_load_explicit(&t->written, memory_order_acquire) -
                 atomic_load_explicit(&t->taken, memory_order_relaxed));
}
