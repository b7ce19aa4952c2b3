/* Two backends as one: the first encodes, the second decodes. It shows which half of a computation a fault is in.
 *
 * A session consists of a session of each. encode runs on the encoder's session, copies the rows into the decoder's
 * ring, and rewinds the encoder's session past them, since nothing steps it. step uses the decoder's session alone, so
 * encode and step may come from two threads as on any backend. */
#include "backend_choice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/progress.h"
#include "util/error.h"

enum { ENCODE, DECODE, N_HALVES };

struct split_state { /* immutable after open */
    struct sur_backend table;
    char name[32];
    const struct sur_backend *half[N_HALVES];
    void *of[N_HALVES]; /* their states */
    const struct sur_params *params;
};

struct split_session {
    struct sur_progress progress; /* first: see model/progress.h */
    struct split_state *state;
    void *of[N_HALVES]; /* their sessions */
    float *rows;        /* [SUR_ROW_RING, dim], encode thread */
};

static void state_close(void *state)
{
    struct split_state *s = state;
    if (!s) return;
    for (int i = 0; i < N_HALVES; i++)
        if (s->of[i]) s->half[i]->close(s->of[i]);
    free(s);
}

static void session_destroy(void *session)
{
    struct split_session *s = session;
    if (!s) return;
    for (int i = 0; i < N_HALVES; i++)
        if (s->of[i]) s->state->half[i]->session_destroy(s->of[i]);
    free(s->rows);
    free(s);
}

static int session_create(void **session, void *state, const struct sur_backend_session_options *o)
{
    struct split_state *st = state;
    struct split_session *s = calloc(1, sizeof *s);
    *session = NULL;
    if (!s) return sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
    s->state = st;
    sur_progress_init(&s->progress, st->params, o);
    s->rows = malloc(SUR_ROW_RING * (size_t)s->progress.dim * sizeof *s->rows);
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
    struct split_session *s = session;
    int r = s->state->half[ENCODE]->reset(s->of[ENCODE]);
    if (!r) r = s->state->half[DECODE]->reset(s->of[DECODE]);
    if (!r) sur_progress_reset(&s->progress);
    return r;
}

static int encode_one(const struct sur_encode_job *job, int64_t first)
{
    struct split_session *s = job->session;
    const struct sur_backend *from = s->state->half[ENCODE], *to = s->state->half[DECODE];
    const int n = job->n_tokens;
    struct sur_encode_job own = {.session = s->of[ENCODE], .n_tokens = n, .mel = job->mel};
    int r = from->encode(&own, 1);
    if (!r) r = from->rows(s->of[ENCODE], 0, first, n, s->rows);
    if (!r) r = from->rewind(s->of[ENCODE], first + n);
    if (!r) r = to->rows(s->of[DECODE], 1, first, n, s->rows);
    return r == SUR_AGAIN ? sur_fail(SUR_ERR_BACKEND, "%s: encoded rows do not fit", s->state->name) : r;
}

/* Rows that were encoded must fit into the decoder's ring, although the decode thread may rewind in between. The
 * decoder keeps SUR_STEP_MAX rows before its position; as many more are kept here for that rewind. */
static int encode(struct sur_encode_job *jobs, int n_jobs)
{
    return sur_progress_encode(jobs, n_jobs, 2 * SUR_STEP_MAX, encode_one);
}

static int step_one(const struct sur_step_job *job, int64_t first)
{
    struct split_session *s = job->session;
    struct sur_step_job own = *job;
    (void)first;
    own.session = s->of[DECODE];
    return s->state->half[DECODE]->step(&own, 1);
}

static int step(struct sur_step_job *jobs, int n_jobs)
{
    return sur_progress_step(jobs, n_jobs, step_one);
}

static int rewind_to(void *session, int64_t position)
{
    struct split_session *s = session;
    int r = s->state->half[DECODE]->rewind(s->of[DECODE], position);
    return r ? r : sur_progress_rewind(s, position);
}

static int copy_rows(void *session, int put, int64_t first, int n, float *buffer)
{
    struct split_session *s = session;
    int r = s->state->half[DECODE]->rows(s->of[DECODE], put, first, n, buffer);
    if (r || !put) return r;
    r = s->state->half[ENCODE]->rows(s->of[ENCODE], 1, first, n, buffer); /* the encoder's next row follows them */
    return r ? r : s->state->half[ENCODE]->rewind(s->of[ENCODE], first + n);
}

static int rows(void *session, int put, int64_t first, int n, float *buffer)
{
    return sur_progress_rows(session, put, first, n, buffer, copy_rows);
}

static int logits(void *session, float *out)
{
    struct split_session *s = session;
    return s->state->half[DECODE]->logits(s->of[DECODE], out);
}

/* Each half holds the whole model. */
static void stats(void *state, struct sur_model_stats *sum)
{
    const struct split_state *s = state;
    struct sur_model_stats of[N_HALVES] = {0};
    for (int i = 0; i < N_HALVES; i++) s->half[i]->stats(s->of[i], &of[i]);
    *sum = of[ENCODE];
    sum->load_ns += of[DECODE].load_ns;
    sum->device_bytes += of[DECODE].device_bytes;
    if (of[DECODE].n_resident < sum->n_resident) sum->n_resident = of[DECODE].n_resident;
    sum->uploads += of[DECODE].uploads;
    sum->uploaded_bytes += of[DECODE].uploaded_bytes;
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
    .logits = logits,
    .stats = stats,
};

int sur_split_open(const struct sur_backend **backend, void **state, const struct sur_backend *const halves[2],
                   const struct sur_checkpoint *checkpoint, const struct sur_model_options options[2])
{
    struct split_state *s = calloc(1, sizeof *s);
    *state = NULL;
    if (!s) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    s->table = table;
    snprintf(s->name, sizeof s->name, "%s+%s", halves[ENCODE]->name, halves[DECODE]->name);
    s->table.name = s->name;
    s->params = &checkpoint->params;
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
