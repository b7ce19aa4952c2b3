/* How far a session is, and the rules that follow from it for the calls of the backend table (model/backend.h). Every
 * backend's session begins with a struct sur_progress, so a session's pointer is a pointer to it; the functions below
 * take that pointer. The library and the CUDA module each compile progress.c.
 *
 * Threads: the encode thread alone adds rows, the decode thread alone moves the position; both read both. */
#ifndef SUR_MODEL_PROGRESS_H
#define SUR_MODEL_PROGRESS_H

#include <stdatomic.h>

#include "model/backend.h"

struct sur_progress {
    /* immutable after init */
    struct sur_backend_session_options options;
    int vocab_size, dim; /* of the model; dim: floats of a row */
    /* encode releases, any thread acquires */
    _Atomic int64_t n_rows; /* rows encoded so far; row i belongs to position i */
    /* decode releases, any thread acquires */
    _Atomic int64_t position; /* the next one to be stepped */
};

void sur_progress_init(struct sur_progress *progress, const struct sur_params *params,
                       const struct sur_backend_session_options *options);
/* Back to options.start, without rows. No other thread may use the session. */
void sur_progress_reset(struct sur_progress *progress);

static inline int64_t sur_progress_n_rows(const void *session)
{
    const struct sur_progress *p = session;
    return atomic_load_explicit(&p->n_rows, memory_order_acquire);
}

static inline int64_t sur_progress_position(const void *session)
{
    const struct sur_progress *p = session;
    return atomic_load_explicit(&p->position, memory_order_acquire);
}

/* sur_backend.encode: checks each job and runs those that can run; run encodes a job into the rows from first on.
 * kept: how many rows before the position stay readable. */
typedef int (*sur_encode_fn)(const struct sur_encode_job *job, int64_t first);
int sur_progress_encode(struct sur_encode_job *jobs, int n_jobs, int kept, sur_encode_fn run);

/* sur_backend.step: the same for steps; run takes the positions from first on. */
typedef int (*sur_step_fn)(const struct sur_step_job *job, int64_t first);
int sur_progress_step(struct sur_step_job *jobs, int n_jobs, sur_step_fn run);

/* sur_backend.rewind */
int sur_progress_rewind(void *session, int64_t position);

/* sur_backend.rows: checks, then copies by copy, then publishes what was put. */
typedef int (*sur_rows_fn)(void *session, int put, int64_t first, int n, float *buffer);
int sur_progress_rows(void *session, int put, int64_t first, int n, float *buffer, sur_rows_fn copy);

#endif
