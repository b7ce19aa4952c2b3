/* Two backends as one: the first encodes, the second decodes, for finding out which half a fault is in.
 *
 * A session is one of each. Rows are copied when they have been encoded; the encoder's own ring is then passed over
 * (rewind forward), as nobody steps it. So encode touches the encoder's session and puts rows, step touches the
 * decoder's alone, and the two may come from two threads as on any backend. */
#include "backends.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/progress.h"
#include "util/error.h"

enum { ENCODE, DECODE, N_HALVES, MAX_JOBS = 64 };

struct state { /* immutable after open */
    struct sur_backend table;
    char name[32];
    const struct sur_backend *half[N_HALVES];
    void *of[N_HALVES];
    size_t dim;
};

struct session {
    struct state *state;
    struct sur_backend_session_options options;
    void *of[N_HALVES];
    struct sur_progress progress; /* its position: the furthest ever */
    /* encode thread */
    float *rows; /* [SUR_ROW_RING, dim] */
    /* decode thread */
    int64_t position;
};

static void state_close(void *state)
{
    struct state *s = state;
    if (!s) return;
    for (int i = 0; i < N_HALVES; i++)
        if (s->of[i]) s->half[i]->close(s->of[i]);
    free(s);
}

static void session_destroy(void *session)
{
    struct session *s = session;
    if (!s) return;
    for (int i = 0; i < N_HALVES; i++)
        if (s->of[i]) s->state->half[i]->session_destroy(s->of[i]);
    free(s->rows);
    free(s);
}

static void start_over(struct session *s)
{
    s->position = s->options.start;
    sur_progress_reset(&s->progress, &s->options);
}

static int session_create(void **session, void *state, const struct sur_backend_session_options *o)
{
    struct state *st = state;
    struct session *s = calloc(1, sizeof *s);
    *session = NULL;
    if (!s) return sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
    s->state = st;
    s->options = *o;
    s->rows = malloc(SUR_ROW_RING * st->dim * sizeof *s->rows);
    start_over(s);
    int r = s->rows ? SUR_OK : sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
    for (int i = 0; !r && i < N_HALVES; i++) r = st->half[i]->session_create(&s->of[i], st->of[i], o);
    if (r)
        session_destroy(s);
    else
        *session = s;
    return r;
}

static int reset(void *session)
{
    struct session *s = session;
    int r = s->state->half[ENCODE]->reset(s->of[ENCODE]);
    if (!r) r = s->state->half[DECODE]->reset(s->of[DECODE]);
    if (!r) start_over(s);
    return r;
}

static int hand_over(struct session *s, int n)
{
    const struct sur_backend *from = s->state->half[ENCODE], *to = s->state->half[DECODE];
    int64_t first = sur_progress_rows(&s->progress);
    int r = from->rows(s->of[ENCODE], 0, first, n, s->rows);
    if (!r) r = from->rewind(s->of[ENCODE], first + n);
    if (!r) r = to->rows(s->of[DECODE], 1, first, n, s->rows);
    if (r == SUR_AGAIN) r = sur_fail(SUR_ERR_BACKEND, "%s: encoded rows do not fit", s->state->name);
    if (!r) sur_progress_encoded(&s->progress, first + n);
    return r;
}

/* Room is known before anything is encoded, for what is encoded must fit. Whatever was stepped last may have been
 * rewound, and rows that one more rewind may want are kept: so the decoder's ring has room when this says so. */
static int encode(struct sur_encode_job *jobs, int n_jobs)
{
    for (int i = 0; i < n_jobs; i++) {
        struct session *s = jobs[i].session;
        int r = sur_progress_check_encode(&s->progress, &s->options, jobs[i].n_tokens, 2 * SUR_STEP_MAX);
        if (r) return r;
    }
    int r = SUR_OK;
    for (int i = 0; !r && i < n_jobs; i++) {
        struct session *s = jobs[i].session;
        struct sur_encode_job job = {s->of[ENCODE], jobs[i].n_tokens, jobs[i].mel};
        r = s->state->half[ENCODE]->encode(&job, 1);
        if (!r) r = hand_over(s, jobs[i].n_tokens);
    }
    return r;
}

static void move_to(struct session *s, int64_t position)
{
    s->position = position;
    if (position > sur_progress_position(&s->progress)) sur_progress_stepped(&s->progress, position);
}

/* The jobs are the decoder's for as long as it has them, so that it sees them all at once. */
static int step(struct sur_step_job *jobs, int n_jobs)
{
    if (n_jobs < 1) return SUR_OK;
    const struct sur_backend *decoder = ((struct session *)jobs[0].session)->state->half[DECODE];
    void *mine[MAX_JOBS];
    if (n_jobs > MAX_JOBS) return sur_fail(SUR_ERR_ARGUMENT, "step: %d jobs, at most %d", n_jobs, MAX_JOBS);
    for (int i = 0; i < n_jobs; i++) {
        mine[i] = jobs[i].session;
        jobs[i].session = ((struct session *)mine[i])->of[DECODE];
    }
    int r = decoder->step(jobs, n_jobs);
    for (int i = 0; i < n_jobs; i++) {
        struct session *s = jobs[i].session = mine[i];
        if (!r) move_to(s, s->position + jobs[i].n);
    }
    return r;
}

static int rewind_to(void *session, int64_t position)
{
    struct session *s = session;
    int r = s->state->half[DECODE]->rewind(s->of[DECODE], position);
    if (!r) move_to(s, position);
    return r;
}

static int rows(void *session, int put, int64_t first, int n, float *buffer)
{
    struct session *s = session;
    int r = s->state->half[DECODE]->rows(s->of[DECODE], put, first, n, buffer);
    if (r || !put) return r;
    r = s->state->half[ENCODE]->rows(s->of[ENCODE], 1, first, n, buffer); /* its positions count on */
    if (!r) r = s->state->half[ENCODE]->rewind(s->of[ENCODE], first + n);
    if (!r) sur_progress_encoded(&s->progress, first + n);
    return r;
}

/* Both hold the whole model. */
static void stats(void *state, struct sur_backend_stats *sum)
{
    const struct state *s = state;
    struct sur_backend_stats of[N_HALVES] = {0};
    for (int i = 0; i < N_HALVES; i++) s->half[i]->stats(s->of[i], &of[i]);
    *sum = of[ENCODE];
    sum->load_ns += of[DECODE].load_ns;
    sum->memory_bytes += of[DECODE].memory_bytes;
    if (of[DECODE].n_resident < sum->n_resident) sum->n_resident = of[DECODE].n_resident;
    sum->uploads += of[DECODE].uploads;
    sum->uploaded_bytes += of[DECODE].uploaded_bytes;
}

static int64_t stage(void *session, const char *which, int64_t first, float *out, size_t max)
{
    struct session *s = session;
    return s->state->half[DECODE]->stage(s->of[DECODE], which, first, out, max);
}

static const struct sur_backend table = {
    .close = state_close,
    .session_create = session_create,
    .session_destroy = session_destroy,
    .reset = reset,
    .encode = encode,
    .step = step,
    .rewind = rewind_to,
    .rows = rows,
    .stats = stats,
    .stage = stage,
};

int sur_mix_open(const struct sur_backend **backend, void **state, const struct sur_backend *const halves[2],
                 const struct sur_checkpoint *checkpoint, const struct sur_backend_options options[2])
{
    struct state *s = calloc(1, sizeof *s);
    *state = NULL;
    if (!s) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    s->table = table;
    snprintf(s->name, sizeof s->name, "%s+%s", halves[ENCODE]->name, halves[DECODE]->name);
    s->table.name = s->name;
    s->dim = (size_t)checkpoint->params.decoder.dim;
    int r = SUR_OK;
    for (int i = 0; !r && i < N_HALVES; i++) {
        s->half[i] = halves[i];
        r = halves[i]->open(&s->of[i], checkpoint, &options[i]);
    }
    if (r) {
        state_close(s);
        return r;
    }
    *backend = &s->table;
    *state = s;
    return SUR_OK;
}
