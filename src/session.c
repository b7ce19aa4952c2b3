/* One session: feed > frames > backend > events, and the schedule that drives them.
 *
 * Three groups of calls, one thread each (surtitle.h). Between feed and encode stands a ring of samples (session_feed),
 * between encode and decode the backend's ring of rows. What is computed together depends on sample counts and on the
 * session's mode alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core.h"
#include "model/progress.h"
#include "model/schedule.h"
#include "session_events.h"
#include "session_feed.h"
#include "session_frames.h"
#include "util/clock.h"
#include "util/error.h"

/* Whole passes reach the prompt's end before an empty ring of rows refuses one. */
_Static_assert(SUR_ROW_RING / SUR_WHOLE_TOKENS * SUR_WHOLE_TOKENS >= SUR_PROMPT_MAX, "the longest prompt");

/* How far a session is: feed and frames count samples, the backend counts rows and positions (model/progress.h). */
struct sur_session {
    /* immutable after create */
    struct sur_model *model;
    void *backend;
    struct sur_session_options options;
    int delay, n_prompt, pass_tokens;
    int32_t *force;

    /* feed thread; encode reads its ring */
    struct sur_feed feed;
    /* feed appends skips, decode takes them; samples at 16 kHz */
    struct sur_timeline timeline;

    /* encode thread */
    struct sur_frames frames;
    _Atomic int64_t n_total; /* tokens in all, -1 until the end is known; encode releases, decode acquires */

    /* decode thread */
    struct sur_events events;
    bool ended, is_broken; /* the last step is out; a logit was not finite */

    /* any thread */
    atomic_bool stopped;
    _Atomic int64_t encode_ns, decode_ns, prefill_ns;
};

/* ---- create, destroy ---- */

static int create_parts(struct sur_session *s)
{
    const struct sur_model *m = s->model;
    const struct sur_session_options *o = &s->options;
    /* A flush makes as many steps as the end does, so that the same words come out. One token more fills up the last
     * one, one more is what resampler and mel look ahead. */
    const int64_t flush = (int64_t)(s->delay + 1 + SUR_RIGHT_PAD_EXTRA + 2) * SUR_TOKEN_SAMPLES;
    const int64_t left_pad = (int64_t)m->tekken->n_left_pad * SUR_TOKEN_SAMPLES;
    int r = sur_feed_init(&s->feed, o, flush, &s->timeline);
    if (!r)
        r = sur_frames_init(&s->frames, &s->feed, o, &m->checkpoint->params, (size_t)s->pass_tokens * SUR_TOKEN_FRAMES,
                            left_pad);
    if (!r) r = sur_events_init(&s->events, m->checkpoint->tekken, &s->timeline);
    if (r) return r;
    s->force = malloc(o->n_force * sizeof *s->force + 1);
    if (!s->force) return sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
    if (o->n_force) memcpy(s->force, o->force, o->n_force * sizeof *s->force);
    struct sur_backend_session_options b = {.delay = s->delay, .n_prompt = s->n_prompt, .max_tokens = s->pass_tokens};
    return m->backend->session_create(&s->backend, m->state, &b);
}

int sur_session_create(struct sur_session **session, struct sur_model *m, const struct sur_session_options *o)
{
    if (!session) return sur_fail(SUR_ERR_ARGUMENT, "nowhere to put the session: NULL");
    *session = NULL;
    if (!m || !o) return sur_fail(SUR_ERR_ARGUMENT, "no %s was given", m ? "options" : "model");
    int delay_ms = o->delay_ms ? o->delay_ms : m->tekken->delay_ms, r = sur_check_session_options(o, delay_ms, m);
    if (!r) r = sur_check_process(m);
    if (r) return r;
    struct sur_session *s = calloc(1, sizeof *s);
    if (!s) return sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
    s->model = m;
    atomic_fetch_add(&m->n_sessions, 1);
    s->options = *o;
    s->events.fd = -1;
    s->delay = delay_ms / SUR_TOKEN_MS;
    s->n_prompt = sur_schedule_prompt(m->tekken->n_left_pad, s->delay);
    s->pass_tokens = o->mode == SUR_WHOLE ? SUR_WHOLE_TOKENS : 1;
    atomic_init(&s->n_total, -1);
    r = create_parts(s);
    if (r) sur_session_destroy(&s);
    *session = s;
    return r;
}

void sur_session_destroy(struct sur_session **session)
{
    struct sur_session *s = session ? *session : NULL;
    if (!s) return;
    if (s->backend && s->model->n_forks == sur_forks()) s->model->backend->session_destroy(s->backend);
    sur_events_finish(&s->events);
    sur_frames_finish(&s->frames);
    sur_feed_finish(&s->feed);
    free(s->force);
    atomic_fetch_sub(&s->model->n_sessions, 1);
    free(s);
    *session = NULL;
}

/* Checks a call: there is a session, its model was opened by this process, and `most` is at least 1. */
static int check(const struct sur_session *s, int most)
{
    if (!s) return sur_fail(SUR_ERR_ARGUMENT, "no session was given");
    if (most < 1) return sur_fail(SUR_ERR_ARGUMENT, "a maximum of %d: it must be at least 1", most);
    return sur_check_process(s->model);
}

/* ---- feed ---- */

size_t sur_session_feed(struct sur_session *s, const void *frames, size_t n_frames)
{
    return s && frames ? sur_feed_put(&s->feed, frames, n_frames) : 0;
}

int sur_session_skip(struct sur_session *s, int64_t n_samples, enum sur_skip_reason why)
{
    return s ? sur_feed_skip(&s->feed, n_samples, why) : check(s, 1);
}

int sur_session_flush(struct sur_session *s)
{
    if (!s) return check(s, 1);
    if (s->options.mode == SUR_WHOLE)
        return sur_fail(SUR_ERR_ARGUMENT, "a session in whole mode cannot be flushed: its passes have a fixed length");
    return sur_feed_flush(&s->feed);
}

void sur_session_finish(struct sur_session *s)
{
    if (s) sur_feed_end(&s->feed);
}

void sur_session_stop(struct sur_session *s)
{
    if (s) atomic_store(&s->stopped, true);
}

/* ---- encode ---- */

/* Makes mel frames until there are `want`. False: samples are missing. The total is known once all samples are. */
static bool fill(struct sur_session *s, size_t want)
{
    const bool full = sur_frames_fill(&s->frames, want);
    const int64_t n_samples = atomic_load_explicit(&s->frames.n_samples, memory_order_relaxed);
    if (s->frames.drained)
        atomic_store_explicit(&s->n_total, sur_schedule_tokens(s->model->tekken->n_left_pad, s->delay, n_samples),
                              memory_order_release);
    return full;
}

/* Makes at most most_frames mel frames, then runs one pass if all of its frames are there. In a whole session the last
 * pass is short, so the end must be known before less than a full pass is cut. */
static int encode_pass(struct sur_session *s, size_t most_frames, int *n_done)
{
    int64_t encoded = sur_progress_n_rows(s->backend), total = atomic_load(&s->n_total);
    if (total >= 0 && encoded == total) return SUR_END;
    int n = s->pass_tokens;
    const size_t all = (size_t)n * SUR_TOKEN_FRAMES, missing = all - s->frames.n;
    const bool enough = missing <= most_frames;
    if (!fill(s, enough ? all : s->frames.n + most_frames) || !enough) return SUR_AGAIN;
    total = atomic_load(&s->n_total);
    if (total >= 0 && total - encoded < n) n = (int)(total - encoded);
    int64_t t = sur_clock_ns();
    struct sur_encode_job job = {.session = s->backend, .n_tokens = n, .mel = s->frames.frames};
    int r = s->model->backend->encode(&job, 1);
    atomic_fetch_add_explicit(&s->encode_ns, sur_clock_ns() - t, memory_order_relaxed);
    if (r) return r;
    s->frames.n = 0;
    *n_done += n;
    return SUR_OK;
}

int sur_session_encode(struct sur_session *s, int max_tokens)
{
    int done = 0, r = check(s, max_tokens);
    while (r == SUR_OK && done < max_tokens)
        r = atomic_load(&s->stopped) ? SUR_STOPPED : encode_pass(s, SIZE_MAX, &done);
    return done && (r == SUR_AGAIN || r == SUR_END) ? SUR_OK : r;
}

/* ---- decode ---- */

/* Step k is taken at position n_prompt - 1 + k; below 0 while the prompt has not been taken. */
static int64_t n_steps(const struct sur_session *s)
{
    return sur_progress_position(s->backend) - (s->n_prompt - 1);
}

/* The prompt but its last position, in one call: BOS, then pads. */
static int prefill(struct sur_session *s)
{
    int n = s->n_prompt - 1;
    int32_t tokens[SUR_PROMPT_MAX];
    for (int i = 0; i < n; i++) tokens[i] = i ? s->model->tekken->pad : s->model->tekken->bos;
    int64_t t = sur_clock_ns();
    struct sur_step_job job = {.session = s->backend, .n = n, .tokens = tokens};
    int r = s->model->backend->step(&job, 1);
    if (!r) atomic_fetch_add_explicit(&s->prefill_ns, sur_clock_ns() - t, memory_order_relaxed);
    return r;
}

/* NaN in keys and values stays there, so every later step has it, too. */
static int not_finite(const struct sur_session *s)
{
    return sur_fail(SUR_ERR_MODEL,
                    "step %lld: the model computed NaN or infinity: its weights are damaged, or "
                    "their file was changed while it was in use",
                    (long long)n_steps(s) - 1);
}

static int one_step(struct sur_session *s)
{
    struct sur_step_out out;
    int64_t k = n_steps(s), t = sur_clock_ns();
    struct sur_step_job job = {.session = s->backend, .n = 1, .n_out = 1, .out = &out};
    if (k == 0)
        job.tokens = &s->model->tekken->pad; /* the prompt's last token */
    else if ((size_t)k <= s->options.n_force)
        job.tokens = &s->force[k - 1];
    int r = s->model->backend->step(&job, 1);
    if (r) return r;
    atomic_fetch_add_explicit(&s->decode_ns, sur_clock_ns() - t, memory_order_relaxed);
    s->is_broken = !isfinite(out.top[0]) || !isfinite(out.margin);
    if (s->is_broken) return not_finite(s);
    sur_events_step(&s->events, k, &out);
    return SUR_OK;
}

static void end(struct sur_session *s)
{
    sur_events_end(&s->events, n_steps(s), atomic_load(&s->frames.n_samples));
    s->ended = true;
}

int sur_session_decode(struct sur_session *s, int max_steps)
{
    int done = 0, r = check(s, max_steps);
    while (r == SUR_OK && done < max_steps) {
        if (atomic_load(&s->stopped))
            r = SUR_STOPPED;
        else if (s->ended)
            r = SUR_END;
        else if (s->is_broken)
            r = not_finite(s);
        else if (!sur_events_have_room(&s->events))
            r = SUR_AGAIN;
        else if (n_steps(s) < 0)
            r = prefill(s);
        else if (sur_progress_position(s->backend) == atomic_load_explicit(&s->n_total, memory_order_acquire))
            end(s);
        else
            r = one_step(s);
        if (r == SUR_OK) done++;
    }
    return done && (r == SUR_AGAIN || r == SUR_END) ? SUR_OK : r;
}

/* Between steps only so much mel is made that the next pass's is there in time: a GPU has begun the next step by then,
 * and is not to wait for more. */
int sur_session_run(struct sur_session *s)
{
    int done = 0, e = check(s, 1);
    if (e) return e;
    const bool step_waits = n_steps(s) >= 0 && sur_progress_position(s->backend) < sur_progress_n_rows(s->backend);
    const size_t most_frames = step_waits ? 2 * SUR_TOKEN_FRAMES : SIZE_MAX;
    e = atomic_load(&s->stopped) ? SUR_STOPPED : encode_pass(s, most_frames, &done);
    if (e != SUR_OK && e != SUR_AGAIN && e != SUR_END) return e;
    int d = sur_session_decode(s, 1);
    return d == SUR_AGAIN && e == SUR_OK ? SUR_OK : d;
}

int sur_session_poll(struct sur_session *s, struct sur_event *event)
{
    if (!s || !event) return sur_fail(SUR_ERR_ARGUMENT, "no session was given, or nowhere to put the event: NULL");
    return sur_events_poll(&s->events, event);
}

int sur_session_fd(const struct sur_session *s)
{
    return s ? s->events.fd : -1;
}

/* ---- looking inside ---- */

void sur_session_get_stats(const struct sur_session *s, struct sur_session_stats *stats)
{
    if (!stats) return;
    *stats = (struct sur_session_stats){0};
    if (!s) return;
    int64_t steps = n_steps(s); /* read before the rows, so that no more rows are stepped than encoded */
    if (steps < 0) steps = 0;
    *stats = (struct sur_session_stats){
        .fed_samples = atomic_load(&s->frames.n_samples),
        .tokens_encoded = sur_progress_n_rows(s->backend),
        .steps = steps,
        .encode_ns = atomic_load(&s->encode_ns),
        .decode_ns = atomic_load(&s->decode_ns),
        .prefill_ns = atomic_load(&s->prefill_ns),
        .skipped_samples = atomic_load(&s->events.skipped),
        .silence_samples = atomic_load(&s->feed.n_silence),
    };
    stats->waiting_tokens = stats->tokens_encoded - (s->n_prompt - 1) - stats->steps;
}

/* Rows from `first` on, as many as are there and fit. */
static int64_t copy_rows(struct sur_session *s, int64_t first, float *out, size_t max)
{
    const int64_t have = sur_progress_n_rows(s->backend), dim = s->model->checkpoint->params.decoder.dim;
    int64_t n = first < 0 || first > have ? 0 : have - first;
    if (n > SUR_ROW_RING) n = SUR_ROW_RING;
    if (max / (size_t)dim < (size_t)n) n = (int64_t)(max / (size_t)dim);
    int r = s->model->backend->rows(s->backend, 0, first, (int)n, out);
    return r ? r : n * dim;
}

int64_t sur_session_stage(struct sur_session *s, const char *which, int64_t first, float *out, size_t max)
{
    int r = check(s, 1);
    if (r) return r;
    if (!which || !out) return sur_fail(SUR_ERR_ARGUMENT, "no stage was named, or nowhere to put it: NULL");
    const size_t vocab = (size_t)s->model->checkpoint->params.vocab_size;
    if (!strcmp(which, "rows")) return copy_rows(s, first, out, max);
    if (strcmp(which, "logits") != 0 || max < vocab)
        return sur_fail(SUR_ERR_ARGUMENT, "no stage \"%s\" of at most %zu floats", which, max);
    r = s->model->backend->logits(s->backend, out);
    return r ? r : (int64_t)vocab;
}
