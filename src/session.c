/* One session: samples > resampler > mel > backend > tokens > text > events.
 *
 * Three groups of calls, one thread each (surtitle.h): feed, encode, decode. Between feed and encode stands a ring of
 * samples; between encode and decode the backend's ring of rows. What is computed together depends on sample counts
 * and on the session's mode alone. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "audio/mel.h"
#include "audio/resample.h"
#include "audio/ring.h"
#include "audio/timeline.h"
#include "core.h"
#include "model/progress.h"
#include "model/schedule.h"
#include "text/assemble.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/scale.h"
#include "util/utf8.h"

/* Whole passes reach the prompt's end before an empty ring of rows refuses one. */
_Static_assert(SUR_ROW_RING / SUR_WHOLE_TOKENS * SUR_WHOLE_TOKENS >= SUR_PROMPT_MAX, "the longest prompt");
enum { N_EVENTS = 256, ALTERNATIVE_BYTES = 260, EVENTS_A_STEP = SUR_TIMELINE_LOSSES + 4, CHUNK = SUR_TOKEN_SAMPLES };

struct queued_event {
    struct sur_event event;
    char text[SUR_STEP_TEXT_BYTES];
    char alternatives[SUR_TOP - 1][ALTERNATIVE_BYTES];
};

struct sur_session {
    /* immutable after create */
    struct sur_model *model;
    void *backend;
    struct sur_session_options options;
    int delay, n_prompt, pass_tokens;
    int32_t *force;
    int event_fd;

    /* feed thread */
    struct sur_ring *ring;     /* mono, at the source's rate; encode reads */
    int64_t skip_asked;        /* samples in all; at most SUR_MAX_SKIP */
    atomic_bool finished;      /* feed releases after the last commit, encode acquires */
    bool flushed;              /* silence was put in, and no sample has followed yet */
    bool flush_accounted;      /* a skip has been appended that covers it */
    int64_t silence_left;      /* frames of it that the ring had no room for yet */
    _Atomic int64_t n_silence; /* samples of it in all, at 16 kHz; feed writes, any reads */

    /* feed appends skips, decode takes them; 16 kHz samples */
    struct sur_timeline timeline;

    /* encode thread */
    struct sur_resampler *resampler;
    struct sur_mel *mel;
    float *mel_frames; /* [pass_tokens * 8, n_mels] */
    size_t n_mel_frames;
    int64_t left_pad;   /* zeros still to come */
    float chunk[CHUNK]; /* resampled, from chunk_at to chunk_end not yet taken */
    size_t chunk_at, chunk_end;
    bool drained;              /* all real samples have been drawn */
    _Atomic int64_t n_samples; /* real samples at 16 kHz drawn so far; encode writes, any reads */
    _Atomic int64_t n_total;   /* tokens in all, -1 until the end is known; encode releases, decode acquires */

    /* decode thread */
    bool ended, is_broken; /* broken: a logit was not finite */
    struct sur_assembler assembler;
    struct queued_event *events; /* [N_EVENTS] */
    uint64_t n_events_in, n_events_out;

    /* any thread */
    atomic_bool stopped;
    _Atomic int64_t encode_ns, decode_ns, prefill_ns, skipped_total;
};

/* ---- create, destroy ---- */

static int create_parts(struct sur_session *s)
{
    const struct sur_params *p = &s->model->checkpoint->params;
    const struct sur_session_options *o = &s->options;
    size_t buffer_ms = o->buffer_ms ? (size_t)o->buffer_ms : 10000;
    int r = sur_ring_create(&s->ring, buffer_ms * (size_t)o->rate / 1000 + 1);
    if (r) return sur_fail(r, "not enough memory for %zu ms of samples", buffer_ms);
    r = sur_resampler_create(&s->resampler, o->resampler, o->rate);
    if (!r) r = sur_mel_create(&s->mel, p->n_mels, p->log_mel_max);
    if (r) return r;
    s->mel_frames = calloc((size_t)s->pass_tokens * SUR_TOKEN_FRAMES * (size_t)p->n_mels, sizeof *s->mel_frames);
    s->events = calloc(N_EVENTS, sizeof *s->events);
    s->force = malloc(o->n_force * sizeof *s->force + 1);
    if (!s->mel_frames || !s->events || !s->force) return sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
    if (o->n_force) memcpy(s->force, o->force, o->n_force * sizeof *s->force);
    s->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (s->event_fd < 0) return sur_fail(SUR_ERR_IO, "cannot create an event descriptor");
    struct sur_backend_session_options b = {.delay = s->delay, .n_prompt = s->n_prompt, .max_tokens = s->pass_tokens};
    return s->model->backend->session_create(&s->backend, s->model->state, &b);
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
    s->event_fd = -1;
    s->delay = delay_ms / SUR_TOKEN_MS;
    s->n_prompt = sur_schedule_prompt(m->tekken->n_left_pad, s->delay);
    s->pass_tokens = o->mode == SUR_WHOLE ? SUR_WHOLE_TOKENS : 1;
    s->left_pad = (int64_t)m->tekken->n_left_pad * SUR_TOKEN_SAMPLES;
    atomic_init(&s->n_total, -1);
    sur_assembler_init(&s->assembler);
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
    if (s->event_fd >= 0) close(s->event_fd);
    sur_ring_destroy(&s->ring);
    sur_resampler_destroy(&s->resampler);
    sur_mel_destroy(&s->mel);
    free(s->mel_frames);
    free(s->events);
    free(s->force);
    atomic_fetch_sub(&s->model->n_sessions, 1);
    free(s);
    *session = NULL;
}

/* ---- feed ---- */

/* Whether a call may go on: there is a session, its model is this process's, and `most` is at least 1. */
static int check(const struct sur_session *s, int most)
{
    if (!s) return sur_fail(SUR_ERR_ARGUMENT, "no session was given");
    if (most < 1) return sur_fail(SUR_ERR_ARGUMENT, "at most %d: at least 1", most);
    return sur_check_process(s->model);
}

static float sample(const struct sur_session *s, const char *at)
{
    if (s->options.format == SUR_S16LE) {
        int16_t i;
        memcpy(&i, at, sizeof i);
        return (float)i / 32768.0f;
    }
    float f;
    memcpy(&f, at, sizeof f);
    return isfinite(f) ? f : 0;
}

/* Where the next sample will lie, at 16 kHz; ahead: frames that come before it and are not in the ring yet. */
static int64_t feed_position(const struct sur_session *s, int64_t ahead)
{
    return sur_scale((int64_t)sur_ring_written(s->ring) + ahead, SUR_RATE, s->options.rate);
}

/* Puts as much of a flush's silence in as there is room for; true when all of it is in. */
static bool put_silence(struct sur_session *s)
{
    size_t space;
    float *to;
    while (s->silence_left > 0 && (space = sur_ring_reserve(s->ring, &to)) > 0) {
        size_t n = (int64_t)space < s->silence_left ? space : (size_t)s->silence_left;
        memset(to, 0, n * sizeof *to);
        sur_ring_commit(s->ring, n);
        s->silence_left -= (int64_t)n;
    }
    return s->silence_left == 0;
}

/* Before the first sample after a flush: its silence is in, and a skip covers it. */
static bool end_flush(struct sur_session *s)
{
    float *to;
    if (!put_silence(s) || sur_ring_reserve(s->ring, &to) == 0) return false;
    /* the timeline has kept room for this one */
    if (!s->flush_accounted) sur_timeline_lose(&s->timeline, feed_position(s, 0), 0, SUR_SKIP_GAP);
    s->flushed = false;
    return true;
}

size_t sur_session_feed(struct sur_session *s, const void *frames, size_t n_frames)
{
    if (!s || !frames || atomic_load_explicit(&s->finished, memory_order_relaxed)) return 0;
    if (n_frames > 0 && s->flushed && !end_flush(s)) return 0;
    const char *at = frames;
    size_t sample_bytes = s->options.format == SUR_S16LE ? 2 : 4, taken = 0, space;
    float *to;
    while (taken < n_frames && (space = sur_ring_reserve(s->ring, &to)) > 0) {
        size_t n = n_frames - taken < space ? n_frames - taken : space;
        for (size_t i = 0; i < n; i++) {
            float sum = 0;
            for (int c = 0; c < s->options.channels; c++, at += sample_bytes) sum += sample(s, at);
            to[i] = s->options.channels == 1 ? sum : sum / (float)s->options.channels;
        }
        sur_ring_commit(s->ring, n);
        taken += n;
    }
    return taken;
}

int sur_session_skip(struct sur_session *s, int64_t n_samples, enum sur_skip_reason why)
{
    if (!s) return check(s, 1);
    if (n_samples < 0 || n_samples > SUR_MAX_SKIP - s->skip_asked)
        return sur_fail(SUR_ERR_ARGUMENT, "a skip of %lld samples", (long long)n_samples);
    if ((unsigned)why > SUR_SKIP_DEVICE) return sur_fail(SUR_ERR_ARGUMENT, "there is no reason %d to skip", (int)why);
    if (!sur_timeline_lose(&s->timeline, feed_position(s, s->silence_left), n_samples, (int)why)) return SUR_AGAIN;
    s->skip_asked += n_samples;
    s->flush_accounted = true;
    return SUR_OK;
}

int sur_session_flush(struct sur_session *s)
{
    if (!s) return check(s, 1);
    if (s->options.mode == SUR_WHOLE)
        return sur_fail(SUR_ERR_ARGUMENT, "a session in whole mode cannot be flushed: its passes have a fixed length");
    if (atomic_load_explicit(&s->finished, memory_order_relaxed) || sur_ring_written(s->ring) == 0) return SUR_OK;
    if (!s->flushed) {
        /* As many steps as after the end, so that the same words come out. One token more fills up the last one, one
         * more is what resampler and mel look ahead. */
        int64_t n = (int64_t)(s->delay + 1 + SUR_RIGHT_PAD_EXTRA + 2) * SUR_TOKEN_SAMPLES;
        int64_t frames = sur_scale(n, s->options.rate, SUR_RATE) + 1, from = feed_position(s, 0);
        int64_t at = feed_position(s, frames);
        if (!sur_timeline_fill(&s->timeline, at, at - from)) return SUR_AGAIN;
        atomic_fetch_add_explicit(&s->n_silence, at - from, memory_order_relaxed);
        s->silence_left = frames;
        s->flushed = true;
        s->flush_accounted = false;
    }
    return put_silence(s) ? SUR_OK : SUR_AGAIN;
}

void sur_session_finish(struct sur_session *s)
{
    if (!s) return;
    atomic_store_explicit(&s->finished, true, memory_order_release);
}

void sur_session_stop(struct sur_session *s)
{
    if (!s) return;
    atomic_store(&s->stopped, true);
}

/* ---- encode ---- */

/* Refills the chunk with real samples; false when none are there now. Sets drained when none will ever come. */
static bool draw(struct sur_session *s)
{
    s->chunk_at = s->chunk_end = 0;
    while (!s->drained && s->chunk_end == 0) {
        bool finished = atomic_load_explicit(&s->finished, memory_order_acquire);
        const float *in;
        size_t n = sur_ring_peek(s->ring, &in), used = 0;
        if (n == 0 && !finished) return false;
        s->chunk_end = sur_resampler_process(s->resampler, n ? in : NULL, n, &used, s->chunk, CHUNK);
        sur_ring_drop(s->ring, used);
        if (n == 0 && s->chunk_end == 0) s->drained = true;
    }
    if (s->chunk_end) atomic_fetch_add_explicit(&s->n_samples, (int64_t)s->chunk_end, memory_order_relaxed);
    if (s->drained)
        atomic_store_explicit(&s->n_total,
                              sur_schedule_tokens(s->model->tekken->n_left_pad, s->delay, atomic_load(&s->n_samples)),
                              memory_order_release);
    return s->chunk_end > 0;
}

/* Makes mel frames until there are `want`: pad, real samples, pad. False when samples are missing. */
static bool fill(struct sur_session *s, size_t want)
{
    static const float zeros[CHUNK];
    size_t n_mels = (size_t)s->model->checkpoint->params.n_mels;
    while (s->n_mel_frames < want) {
        const float *from = zeros;
        size_t n = CHUNK, used;
        if (s->left_pad > 0)
            n = s->left_pad < CHUNK ? (size_t)s->left_pad : CHUNK;
        else if (s->chunk_at < s->chunk_end || draw(s)) {
            from = s->chunk + s->chunk_at;
            n = s->chunk_end - s->chunk_at;
        } else if (!s->drained)
            return false;
        s->n_mel_frames +=
            sur_mel_process(s->mel, from, n, &used, s->mel_frames + s->n_mel_frames * n_mels, want - s->n_mel_frames);
        if (s->left_pad > 0)
            s->left_pad -= (int64_t)used;
        else if (from != zeros)
            s->chunk_at += used;
    }
    return true;
}

/* One pass, once its mel is there, of which so many frames are made at most. In a whole session the last one is short,
 * so the end must be known before less than a full pass is cut. */
static int encode_pass(struct sur_session *s, size_t most_frames, int *n_done)
{
    int64_t encoded = sur_progress_n_rows(s->backend), total = atomic_load(&s->n_total);
    if (total >= 0 && encoded == total) return SUR_END;
    int n = s->pass_tokens;
    const size_t all = (size_t)n * SUR_TOKEN_FRAMES, missing = all - s->n_mel_frames;
    const bool enough = missing <= most_frames;
    if (!fill(s, enough ? all : s->n_mel_frames + most_frames) || !enough) return SUR_AGAIN;
    total = atomic_load(&s->n_total);
    if (total >= 0 && total - encoded < n) n = (int)(total - encoded);
    int64_t t = sur_clock_ns();
    struct sur_encode_job job = {.session = s->backend, .n_tokens = n, .mel = s->mel_frames};
    int r = s->model->backend->encode(&job, 1);
    atomic_fetch_add_explicit(&s->encode_ns, sur_clock_ns() - t, memory_order_relaxed);
    if (r) return r;
    s->n_mel_frames = 0;
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

static struct queued_event *push(struct sur_session *s, enum sur_event_type type)
{
    struct queued_event *q = &s->events[s->n_events_in++ % N_EVENTS];
    q->event = (struct sur_event){.type = type, .text = q->text, .piece = ""};
    q->text[0] = 0;
    if (s->n_events_in - s->n_events_out == 1) {
        uint64_t one = 1;
        if (write(s->event_fd, &one, sizeof one) < 0) { /* the counter is full: it is readable then too */
        }
    }
    return q;
}

static void push_group(struct sur_session *s, const struct sur_group *g)
{
    struct queued_event *q = push(s, SUR_EVENT_GROUP);
    q->event.t0 = sur_timeline_clock(&s->timeline, g->t0);
    q->event.t1 = sur_timeline_clock(&s->timeline, g->t1);
    memcpy(q->text, g->text, g->n_bytes + 1);
}

/* Skips whose place lies before this time of the stream become events, and advance the clock. */
static void push_skips(struct sur_session *s, int64_t before)
{
    struct sur_lost_time lost;
    while (sur_timeline_take(&s->timeline, before, &lost)) {
        struct sur_event *e = &push(s, SUR_EVENT_SKIP)->event;
        e->t0 = lost.t0;
        e->t1 = lost.t1;
        e->why = (enum sur_skip_reason)lost.why;
    }
    atomic_store_explicit(&s->skipped_total, s->timeline.lost, memory_order_relaxed);
}

static enum sur_token_class classify(const struct sur_tekken_info *t, int32_t id, int special)
{
    if (!special) return SUR_TOKEN_TEXT;
    return id == t->pad    ? SUR_TOKEN_PAD
           : id == t->word ? SUR_TOKEN_WORD
           : id == t->eos  ? SUR_TOKEN_EOS
                           : SUR_TOKEN_OTHER;
}

static void push_alternatives(struct sur_session *s, struct queued_event *q, const struct sur_step_out *o)
{
    struct sur_event *e = &q->event;
    for (int i = 1; i < SUR_TOP; i++) {
        struct sur_alternative *a = &e->alternatives[e->n_alternatives];
        char *text = q->alternatives[e->n_alternatives++];
        size_t n;
        int special;
        const char *piece = sur_tekken_piece(s->model->checkpoint->tekken, o->top_id[i], &n, &special);
        a->id = o->top_id[i];
        a->ratio = expf(o->top[i] - o->top[0]);
        a->text = text;
        sur_utf8_clean(text, ALTERNATIVE_BYTES, special ? "" : piece, special ? 0 : n);
    }
}

/* Events are in the order of their times: a group that is open was said before the skips that wait, so they wait until
 * it has closed. But they do not wait until sur_session_skip finds no room: then feeding would stop, too. */
static void push_step(struct sur_session *s, const struct sur_step_out *o)
{
    int64_t step = n_steps(s) - 1, now = (step + 1) * SUR_TOKEN_SAMPLES;
    struct sur_assembler *a = &s->assembler;
    struct sur_group closed;
    char text[SUR_STEP_TEXT_BYTES];
    size_t n_bytes;
    int special;
    const char *piece = sur_tekken_piece(s->model->checkpoint->tekken, o->id, &n_bytes, &special);
    if (!a->open || sur_timeline_waiting(&s->timeline) > SUR_TIMELINE_LOSSES / 2) push_skips(s, now);
    bool did_close = sur_assembler_step(a, step, classify(s->model->tekken, o->id, special), (const uint8_t *)piece,
                                        n_bytes, text, &closed);
    bool ended_before = did_close && !text[0]; /* by a pad or a marker: this step is not of the group */
    if (ended_before) push_group(s, &closed);
    if ((!a->open || a->group.t1 == now) && ended_before == did_close) push_skips(s, now);
    struct queued_event *q = push(s, SUR_EVENT_TOKEN);
    struct sur_event *e = &q->event;
    const struct sur_group *g = a->open ? &a->group : NULL;
    e->step = step;
    e->id = o->id;
    e->margin = o->margin;
    e->piece = piece;
    e->piece_bytes = n_bytes;
    e->special = special;
    e->t0 = sur_timeline_clock(&s->timeline, g ? g->t0 : now - SUR_TOKEN_SAMPLES);
    e->t1 = sur_timeline_clock(&s->timeline, g ? g->t1 : now);
    memcpy(q->text, text, strlen(text) + 1);
    push_alternatives(s, q, o);
    if (did_close && !ended_before) push_group(s, &closed);
}

static void push_end(struct sur_session *s)
{
    struct sur_group closed;
    char text[SUR_STEP_TEXT_BYTES];
    if (sur_assembler_finish(&s->assembler, text, &closed)) push_group(s, &closed);
    push_skips(s, INT64_MAX);
    int64_t end = sur_timeline_clock(&s->timeline, atomic_load(&s->n_samples));
    struct queued_event *q = push(s, SUR_EVENT_END);
    memcpy(q->text, text, strlen(text) + 1);
    q->event.t0 = q->event.t1 = end;
    q->event.step = n_steps(s);
    q->event.skipped = s->timeline.lost;
    s->ended = true;
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

/* NaN in keys and values stays there: every later step has it, too. */
static int not_finite(const struct sur_session *s)
{
    return sur_fail(SUR_ERR_MODEL,
                    "step %lld: the model computed what is no finite number: its weights are damaged, or "
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
    push_step(s, &out);
    return SUR_OK;
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
        else if (s->n_events_in - s->n_events_out + EVENTS_A_STEP > N_EVENTS)
            r = SUR_AGAIN;
        else if (n_steps(s) < 0)
            r = prefill(s);
        else if (sur_progress_position(s->backend) == atomic_load_explicit(&s->n_total, memory_order_acquire))
            push_end(s);
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
    if (s->n_events_in == s->n_events_out) return SUR_AGAIN;
    struct queued_event *q = &s->events[s->n_events_out++ % N_EVENTS];
    for (int i = 0; i < q->event.n_alternatives; i++) q->event.alternatives[i].text = q->alternatives[i];
    *event = q->event;
    if (s->n_events_in == s->n_events_out) {
        uint64_t n;
        if (read(s->event_fd, &n, sizeof n) < 0) { /* was empty already */
        }
    }
    return SUR_OK;
}

int sur_session_fd(const struct sur_session *s)
{
    return s ? s->event_fd : -1;
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
        .fed_samples = atomic_load(&s->n_samples),
        .tokens_encoded = sur_progress_n_rows(s->backend),
        .steps = steps,
        .encode_ns = atomic_load(&s->encode_ns),
        .decode_ns = atomic_load(&s->decode_ns),
        .prefill_ns = atomic_load(&s->prefill_ns),
        .skipped_samples = atomic_load(&s->skipped_total),
        .silence_samples = atomic_load(&s->n_silence),
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
