#include "session_events.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "util/error.h"
#include "util/utf8.h"

/* A step: all skips that wait, a group that closed, the token, one more group. */
enum { N_EVENTS = 256, EVENTS_PER_STEP = SUR_TIMELINE_LOSSES + 4, ALTERNATIVE_BYTES = 260 };

struct sur_queued_event {
    struct sur_event event;
    char text[SUR_STEP_TEXT_BYTES];
    char alternatives[SUR_TOP - 1][ALTERNATIVE_BYTES];
};

int sur_events_init(struct sur_events *s, const struct sur_tekken *tekken, struct sur_timeline *timeline)
{
    s->tekken = tekken;
    s->timeline = timeline;
    sur_assembler_init(&s->assembler);
    s->queue = calloc(N_EVENTS, sizeof *s->queue);
    if (!s->queue) return sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
    s->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return s->fd < 0 ? sur_fail(SUR_ERR_IO, "cannot create an event descriptor") : SUR_OK;
}

void sur_events_finish(struct sur_events *s)
{
    if (s->fd >= 0) close(s->fd);
    free(s->queue);
}

bool sur_events_have_room(const struct sur_events *s)
{
    return s->n_in - s->n_out + EVENTS_PER_STEP <= N_EVENTS;
}

static struct sur_queued_event *push(struct sur_events *s, enum sur_event_type type)
{
    struct sur_queued_event *q = &s->queue[s->n_in++ % N_EVENTS];
    q->event = (struct sur_event){.type = type, .text = q->text, .piece = ""};
    q->text[0] = 0;
    if (s->n_in - s->n_out == 1) {
        uint64_t one = 1;
        if (write(s->fd, &one, sizeof one) < 0) { /* the counter is full: it is readable then too */
        }
    }
    return q;
}

static void push_group(struct sur_events *s, const struct sur_group *g)
{
    struct sur_queued_event *q = push(s, SUR_EVENT_GROUP);
    q->event.t0 = sur_timeline_clock(s->timeline, g->t0);
    q->event.t1 = sur_timeline_clock(s->timeline, g->t1);
    memcpy(q->text, g->text, g->n_bytes + 1);
}

/* Skips whose place lies before this time of the stream become events, and advance the clock. */
static void push_skips(struct sur_events *s, int64_t before)
{
    struct sur_lost_time lost;
    while (sur_timeline_take(s->timeline, before, &lost)) {
        struct sur_event *e = &push(s, SUR_EVENT_SKIP)->event;
        e->t0 = lost.t0;
        e->t1 = lost.t1;
        e->why = (enum sur_skip_reason)lost.why;
    }
    atomic_store_explicit(&s->skipped, s->timeline->lost, memory_order_relaxed);
}

static enum sur_token_class classify(const struct sur_tekken_info *t, int32_t id, int special)
{
    if (!special) return SUR_TOKEN_TEXT;
    return id == t->pad    ? SUR_TOKEN_PAD
           : id == t->word ? SUR_TOKEN_WORD
           : id == t->eos  ? SUR_TOKEN_EOS
                           : SUR_TOKEN_OTHER;
}

static void push_alternatives(struct sur_events *s, struct sur_queued_event *q, const struct sur_step_out *o)
{
    struct sur_event *e = &q->event;
    for (int i = 1; i < SUR_TOP; i++) {
        struct sur_alternative *a = &e->alternatives[e->n_alternatives];
        char *text = q->alternatives[e->n_alternatives++];
        size_t n;
        int special;
        const char *piece = sur_tekken_piece(s->tekken, o->top_id[i], &n, &special);
        a->id = o->top_id[i];
        a->ratio = expf(o->top[i] - o->top[0]);
        a->text = text;
        sur_utf8_clean(text, ALTERNATIVE_BYTES, special ? "" : piece, special ? 0 : n);
    }
}

/* Events are in the order of their times. An open group was spoken before the skips that wait, so they wait until it
 * has closed, unless so many wait that sur_session_skip soon has no room: feeding would then stop, too. */
void sur_events_step(struct sur_events *s, int64_t step, const struct sur_step_out *o)
{
    const int64_t now = (step + 1) * SUR_TOKEN_SAMPLES;
    struct sur_assembler *a = &s->assembler;
    struct sur_group closed;
    char text[SUR_STEP_TEXT_BYTES];
    size_t n_bytes;
    int special;
    const char *piece = sur_tekken_piece(s->tekken, o->id, &n_bytes, &special);
    if (!a->open || sur_timeline_waiting(s->timeline) > SUR_TIMELINE_LOSSES / 2) push_skips(s, now);
    bool did_close = sur_assembler_step(a, step, classify(sur_tekken_info(s->tekken), o->id, special),
                                        (const uint8_t *)piece, n_bytes, text, &closed);
    bool ended_before = did_close && !text[0]; /* by a pad or a marker, which is not part of the group */
    if (ended_before) push_group(s, &closed);
    if ((!a->open || a->group.t1 == now) && ended_before == did_close) push_skips(s, now);
    struct sur_queued_event *q = push(s, SUR_EVENT_TOKEN);
    struct sur_event *e = &q->event;
    const struct sur_group *g = a->open ? &a->group : NULL;
    e->step = step;
    e->id = o->id;
    e->margin = o->margin;
    e->piece = piece;
    e->piece_bytes = n_bytes;
    e->special = special;
    e->t0 = sur_timeline_clock(s->timeline, g ? g->t0 : now - SUR_TOKEN_SAMPLES);
    e->t1 = sur_timeline_clock(s->timeline, g ? g->t1 : now);
    memcpy(q->text, text, strlen(text) + 1);
    push_alternatives(s, q, o);
    if (did_close && !ended_before) push_group(s, &closed);
}

void sur_events_end(struct sur_events *s, int64_t n_steps, int64_t n_samples)
{
    struct sur_group closed;
    char text[SUR_STEP_TEXT_BYTES];
    if (sur_assembler_finish(&s->assembler, text, &closed)) push_group(s, &closed);
    push_skips(s, INT64_MAX);
    int64_t end = sur_timeline_clock(s->timeline, n_samples);
    struct sur_queued_event *q = push(s, SUR_EVENT_END);
    memcpy(q->text, text, strlen(text) + 1);
    q->event.t0 = q->event.t1 = end;
    q->event.step = n_steps;
    q->event.skipped = s->timeline->lost;
}

int sur_events_poll(struct sur_events *s, struct sur_event *event)
{
    if (s->n_in == s->n_out) return SUR_AGAIN;
    struct sur_queued_event *q = &s->queue[s->n_out++ % N_EVENTS];
    for (int i = 0; i < q->event.n_alternatives; i++) q->event.alternatives[i].text = q->alternatives[i];
    *event = q->event;
    if (s->n_in == s->n_out) {
        uint64_t n;
        if (read(s->fd, &n, sizeof n) < 0) { /* was empty already */
        }
    }
    return SUR_OK;
}
