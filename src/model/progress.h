/* How far a session is, and what a call of the backend's table (model/backend.h) may ask of it then. The rules are the
 * same for every backend; they stand here as code, inline because the CUDA module links nothing of the library. */
#ifndef SUR_MODEL_PROGRESS_H
#define SUR_MODEL_PROGRESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "model/backend.h"
#include "util/error.h"

struct sur_progress {
    _Atomic int64_t n_rows;   /* there so far; encode releases, step acquires */
    _Atomic int64_t position; /* the next to be stepped; step releases, encode acquires */
};

static inline void sur_progress_reset(struct sur_progress *p, const struct sur_backend_session_options *o)
{
    atomic_store(&p->n_rows, o->start);
    atomic_store(&p->position, o->start);
}

/* The encode thread's own count. */
static inline int64_t sur_progress_rows(struct sur_progress *p)
{
    return atomic_load_explicit(&p->n_rows, memory_order_relaxed);
}

/* Whether the decode thread may step this position. */
static inline bool sur_progress_has_row(struct sur_progress *p, int64_t position)
{
    return position < atomic_load_explicit(&p->n_rows, memory_order_acquire);
}

/* The decode thread's own. */
static inline int64_t sur_progress_position(struct sur_progress *p)
{
    return atomic_load_explicit(&p->position, memory_order_relaxed);
}

static inline void sur_progress_encoded(struct sur_progress *p, int64_t n_rows)
{
    atomic_store_explicit(&p->n_rows, n_rows, memory_order_release);
}

static inline void sur_progress_stepped(struct sur_progress *p, int64_t position)
{
    atomic_store_explicit(&p->position, position, memory_order_release);
}

/* May n rows be added? `kept` before the position stay, because a rewind may want them again. SUR_AGAIN: no room. */
static inline int sur_progress_check_room(struct sur_progress *p, const struct sur_backend_session_options *o, int n,
                                          int kept)
{
    int64_t oldest = atomic_load_explicit(&p->position, memory_order_acquire) - kept;
    if (oldest < o->start) oldest = o->start;
    return n > SUR_ROW_RING || sur_progress_rows(p) + n - oldest > SUR_ROW_RING ? SUR_AGAIN : SUR_OK;
}

static inline int sur_progress_check_encode(struct sur_progress *p, const struct sur_backend_session_options *o,
                                            int n_tokens, int kept)
{
    if (n_tokens < 1 || n_tokens > o->max_tokens)
        return sur_fail(SUR_ERR_ARGUMENT, "encode: %d tokens in a pass of at most %d", n_tokens, o->max_tokens);
    return sur_progress_check_room(p, o, n_tokens, kept);
}

/* SUR_AGAIN: rows are missing. */
static inline int sur_progress_check_step(struct sur_progress *p, const struct sur_backend_session_options *o,
                                          const struct sur_step_job *job, int vocab_size)
{
    int64_t first = sur_progress_position(p);
    int most = first > o->start ? SUR_STEP_MAX : o->n_prompt;
    if (job->n < 1 || job->n > most || job->n_out < 0 || job->n_out > job->n || job->n_out > SUR_STEP_MAX ||
        (!job->tokens && job->n != 1))
        return sur_fail(SUR_ERR_ARGUMENT, "step: %d positions, %d results", job->n, job->n_out);
    for (int i = 0; job->tokens && i < job->n; i++)
        if (job->tokens[i] < 0 || job->tokens[i] >= vocab_size)
            return sur_fail(SUR_ERR_ARGUMENT, "token id %d is not in the model's vocabulary", job->tokens[i]);
    return first + job->n > atomic_load_explicit(&p->n_rows, memory_order_acquire) ? SUR_AGAIN : SUR_OK;
}

static inline int sur_progress_rewind(struct sur_progress *p, const struct sur_backend_session_options *o,
                                      int64_t position)
{
    int64_t now = atomic_load(&p->position);
    if (position < o->start || now - position > SUR_STEP_MAX ||
        position > atomic_load_explicit(&p->n_rows, memory_order_acquire))
        return sur_fail(SUR_ERR_ARGUMENT, "rewind from %lld to %lld", (long long)now, (long long)position);
    sur_progress_stepped(p, position);
    return SUR_OK;
}

/* SUR_AGAIN: no room for what is put. */
static inline int sur_progress_check_rows(struct sur_progress *p, const struct sur_backend_session_options *o, int put,
                                          int64_t first, int n)
{
    int64_t have = atomic_load_explicit(&p->n_rows, memory_order_acquire);
    if (put && first != have)
        return sur_fail(SUR_ERR_ARGUMENT, "rows: %lld put after %lld", (long long)first, (long long)have);
    if (put) return sur_progress_check_room(p, o, n, SUR_STEP_MAX);
    if (first < 0 || first > have || n < 0 || n > have - first || first < have - SUR_ROW_RING)
        return sur_fail(SUR_ERR_ARGUMENT, "rows: not there");
    return SUR_OK;
}

/* How many rows from `first` a reader with room for max_floats gets: for the stage "rows". Any `first` is fine:
 * sur_progress_check_rows refuses one that is not there. */
static inline int sur_progress_stage_rows(struct sur_progress *p, int64_t first, size_t max_floats, int dim)
{
    int64_t have = atomic_load_explicit(&p->n_rows, memory_order_acquire);
    int64_t n = first < 0 || first > have ? 0 : have - first;
    size_t room = max_floats / (size_t)dim;
    if (n > SUR_ROW_RING) n = SUR_ROW_RING;
    return room < (size_t)n ? (int)room : (int)n;
}

#endif
