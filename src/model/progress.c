#include "model/progress.h"

#include "util/error.h"

void sur_progress_init(struct sur_progress *p, const struct sur_params *params,
                       const struct sur_backend_session_options *options)
{
    p->options = *options;
    p->vocab_size = params->vocab_size;
    p->dim = params->decoder.dim;
    sur_progress_reset(p);
}

void sur_progress_reset(struct sur_progress *p)
{
    atomic_store(&p->n_rows, p->options.start);
    atomic_store(&p->position, p->options.start);
}

/* SUR_AGAIN: n more rows would overwrite some of the `kept` rows before the position, which a rewind may want. */
static int check_room(const struct sur_progress *p, int n, int kept)
{
    int64_t oldest = sur_progress_position(p) - kept;
    if (oldest < p->options.start) oldest = p->options.start;
    return n > SUR_ROW_RING || sur_progress_n_rows(p) + n - oldest > SUR_ROW_RING ? SUR_AGAIN : SUR_OK;
}

static int check_encode(const struct sur_progress *p, const struct sur_encode_job *job, int kept)
{
    const int most = p->options.max_tokens;
    if (job->n_tokens < 1 || job->n_tokens > most)
        return sur_fail(SUR_ERR_ARGUMENT, "encode: %d tokens in a pass of at most %d", job->n_tokens, most);
    return check_room(p, job->n_tokens, kept);
}

int sur_progress_encode(struct sur_encode_job *jobs, int n_jobs, int kept, sur_encode_fn run)
{
    int first_failure = SUR_OK;
    for (int i = 0; i < n_jobs; i++) {
        struct sur_encode_job *job = &jobs[i];
        struct sur_progress *p = job->session;
        const int64_t first = sur_progress_n_rows(p);
        job->status = check_encode(p, job, kept);
        if (!job->status) job->status = run(job, first);
        if (!job->status) atomic_store_explicit(&p->n_rows, first + job->n_tokens, memory_order_release);
        if (!first_failure) first_failure = job->status;
    }
    return first_failure;
}

/* SUR_AGAIN: rows are missing. */
static int check_step(const struct sur_progress *p, const struct sur_step_job *job)
{
    const int64_t first = sur_progress_position(p);
    const int most = first > p->options.start ? SUR_STEP_MAX : p->options.n_prompt;
    if (job->n < 1 || job->n > most || job->n_out < 0 || job->n_out > job->n || job->n_out > SUR_STEP_MAX ||
        (!job->tokens && job->n != 1))
        return sur_fail(SUR_ERR_ARGUMENT, "step: %d positions, %d results", job->n, job->n_out);
    for (int i = 0; job->tokens && i < job->n; i++)
        if (job->tokens[i] < 0 || job->tokens[i] >= p->vocab_size)
            return sur_fail(SUR_ERR_ARGUMENT, "token id %d is not in the model's vocabulary", job->tokens[i]);
    return first + job->n > sur_progress_n_rows(p) ? SUR_AGAIN : SUR_OK;
}

int sur_progress_step(struct sur_step_job *jobs, int n_jobs, sur_step_fn run)
{
    int first_failure = SUR_OK;
    for (int i = 0; i < n_jobs; i++) {
        struct sur_step_job *job = &jobs[i];
        struct sur_progress *p = job->session;
        const int64_t first = sur_progress_position(p);
        job->status = check_step(p, job);
        if (!job->status) job->status = run(job, first);
        if (!job->status) atomic_store_explicit(&p->position, first + job->n, memory_order_release);
        if (!first_failure) first_failure = job->status;
    }
    return first_failure;
}

int sur_progress_rewind(void *session, int64_t position)
{
    struct sur_progress *p = session;
    const int64_t now = sur_progress_position(p);
    if (position < p->options.start || now - position > SUR_STEP_MAX || position > sur_progress_n_rows(p))
        return sur_fail(SUR_ERR_ARGUMENT, "rewind from %lld to %lld", (long long)now, (long long)position);
    atomic_store_explicit(&p->position, position, memory_order_release);
    return SUR_OK;
}

int sur_progress_rows(void *session, int put, int64_t first, int n, float *buffer, sur_rows_fn copy)
{
    struct sur_progress *p = session;
    const int64_t have = sur_progress_n_rows(p);
    int r = SUR_OK;
    if (put && first != have)
        return sur_fail(SUR_ERR_ARGUMENT, "rows: %lld put after %lld", (long long)first, (long long)have);
    if (put) r = check_room(p, n, SUR_STEP_MAX);
    if (!put && (first < 0 || first > have || n < 0 || n > have - first || first < have - SUR_ROW_RING))
        return sur_fail(SUR_ERR_ARGUMENT, "rows: no such rows");
    if (!r) r = copy(session, put, first, n, buffer);
    if (!r && put) atomic_store_explicit(&p->n_rows, first + n, memory_order_release);
    return r;
}
