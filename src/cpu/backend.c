/* The CPU backend: the table of model/backend.h over the towers and ops of this folder. */
#include "model/backend.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/gemm.h"
#include "cpu/os_memory.h"
#include "cpu/tower.h"
#include "model/progress.h"
#include "model/schedule.h"
#include "util/clock.h"
#include "util/error.h"

struct cpu_state { /* immutable after open, shared */
    const struct sur_checkpoint *checkpoint;
    enum sur_kv_type kv;
    const struct sur_cpu_ops *ops;
    struct sur_pool *pool;
    struct sur_cpu_tower encoder, decoder;
    struct sur_cpu_matrix conv0, conv1, adapter0, adapter2, embedding;
    struct sur_cpu_arena arena; /* of the packed matrices */
    float *conv0_bias, *conv1_bias, *encoder_norm, *norm;
    int64_t load_ns;
};

struct cpu_session {
    struct sur_progress progress; /* first: see model/progress.h */
    /* immutable after create */
    struct cpu_state *state;
    /* encode thread */
    struct sur_cpu_stack encoder;
    float *mel;     /* [2 + max frames, n_mels]; the first two are carried */
    float *conv0;   /* [1 + max frames, e]; the first is carried */
    float *columns; /* the stem's gathered inputs: [max frames, 3 * n_mels] or [max frames / 2, 3 * e] */
    float *h;       /* [max frames / 2, e] */
    float *adapter; /* [max tokens, dim] */
    /* decode thread */
    struct sur_cpu_stack decoder;
    float *x;      /* [step_most, dim] */
    float *out;    /* [SUR_STEP_MAX, dim] */
    float *logits; /* [SUR_STEP_MAX, vocab]; the last step's row is the last of n_out */
    int n_logits;
    int32_t last_token;
    /* between the two: rows [SUR_ROW_RING, dim] */
    float *rows;
};

static int probe(char *why, size_t why_bytes)
{
    (void)why;
    (void)why_bytes;
    return SUR_OK;
}

static void state_close(void *state)
{
    struct cpu_state *s = state;
    if (!s) return;
    if (s->encoder.shape) sur_cpu_tower_close(&s->encoder);
    if (s->decoder.shape) sur_cpu_tower_close(&s->decoder);
    sur_cpu_arena_finish(&s->arena);
    sur_pool_destroy(&s->pool);
    free(s->conv0_bias);
    free(s->conv1_bias);
    free(s->encoder_norm);
    free(s->norm);
    free(s);
}

/* Packs what is quantised. */
static int pack(struct cpu_state *s)
{
    const struct sur_weights *w = &s->checkpoint->weights;
    const struct sur_cpu_tower *const towers[] = {&s->encoder, &s->decoder};
    enum { OTHERS = 5, PER_LAYER = 9 };
    const int n_layers = s->encoder.shape->n_layers + s->decoder.shape->n_layers;
    struct sur_cpu_matrix **all = malloc((size_t)(OTHERS + PER_LAYER * n_layers) * sizeof *all);
    int n = 0;
    if (!all) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    s->conv0.view = &w->conv0;
    s->conv1.view = &w->conv1;
    s->adapter0.view = &w->adapter0;
    s->adapter2.view = &w->adapter2;
    s->embedding.view = &w->embedding;
    struct sur_cpu_matrix *const others[OTHERS] = {&s->conv0, &s->conv1, &s->adapter0, &s->adapter2, &s->embedding};
    for (int i = 0; i < OTHERS; i++) all[n++] = others[i];
    for (int t = 0; t < 2; t++)
        for (int i = 0; i < towers[t]->shape->n_layers; i++) {
            struct sur_cpu_layer *l = &towers[t]->layers[i];
            struct sur_cpu_matrix *const own[PER_LAYER] = {&l->wq, &l->wk, &l->wv,   &l->wo,  &l->w1,
                                                           &l->w2, &l->w3, &l->ada0, &l->ada2};
            for (int j = 0; j < PER_LAYER; j++)
                if (own[j]->view->data) all[n++] = own[j];
        }
    int r = sur_cpu_arena_pack(&s->arena, all, n, s->pool);
    free(all);
    return r;
}

static int state_open(void **state, const struct sur_checkpoint *c, const struct sur_model_options *options)
{
    struct cpu_state *s = calloc(1, sizeof *s);
    *state = NULL;
    if (!s) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    s->checkpoint = c;
    s->load_ns = -sur_clock_ns();
    s->kv = options->kv;
    const struct sur_cpu_isa *isa;
    int r = sur_cpu_isa_select(&isa, options->cpu);
    if (!r && options->gemm == SUR_GEMM_LT)
        r = sur_fail(SUR_ERR_ARGUMENT, "--gemm lt is for the CUDA backend: own, blas");
    if (!r && options->window_attention != SUR_ATTENTION_OWN)
        r = sur_fail(SUR_ERR_ARGUMENT, "--window-attention gemm is for the CUDA backend: own");
    if (!r && options->gpu >= 0) r = sur_fail(SUR_ERR_ARGUMENT, "--gpu is for the CUDA backend");
    if (!r && options->vram_limit_mib) r = sur_fail(SUR_ERR_ARGUMENT, "--vram-limit is for the CUDA backend");
    if (!r && options->gemm == SUR_GEMM_BLAS) r = sur_blas_open();
    if (!r) r = sur_pool_create(&s->pool, options->threads);
    if (!r) r = sur_cpu_tower_open(&s->encoder, &c->params.encoder, c->weights.encoder, isa, options->gemm, s->pool);
    if (!r) r = sur_cpu_tower_open(&s->decoder, &c->params.decoder, c->weights.decoder, isa, options->gemm, s->pool);
    if (!r && options->gemm == SUR_GEMM_BLAS) r = sur_checkpoint_need(c, 1 << SUR_WEIGHT_BF16, "--gemm blas");
    if (!r) r = pack(s);
    if (!r) {
        s->conv0_bias = sur_cpu_widen(&c->weights.conv0_bias);
        s->conv1_bias = sur_cpu_widen(&c->weights.conv1_bias);
        s->encoder_norm = sur_cpu_widen(&c->weights.encoder_norm);
        s->norm = sur_cpu_widen(&c->weights.norm);
        if (!s->conv0_bias || !s->conv1_bias || !s->encoder_norm || !s->norm)
            r = sur_fail(SUR_ERR_MEMORY, "not enough memory");
    }
    if (!r) s->ops = isa->ops;
    s->load_ns += sur_clock_ns();
    if (r)
        state_close(s);
    else
        *state = s;
    return r;
}

/* ---- session ---- */

static void session_destroy(void *session)
{
    struct cpu_session *s = session;
    if (!s) return;
    sur_cpu_stack_finish(&s->encoder);
    sur_cpu_stack_finish(&s->decoder);
    float *all[] = {s->mel, s->conv0, s->columns, s->h, s->adapter, s->x, s->out, s->logits, s->rows};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(s);
}

/* ffn_norm * (1 + W2(GELU(W0(t)))), t from the delay: what the decoder's second norm multiplies by, for good. */
static int fold_delay(struct cpu_session *s)
{
    const struct sur_params *p = &s->state->checkpoint->params;
    const struct sur_cpu_ops *ops = s->state->ops;
    int dim = p->decoder.dim;
    float *t = malloc(sizeof *t * ((size_t)dim * 2 + (size_t)p->ada_dim));
    if (!t) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    float *ada = t + dim, *scale = ada + p->ada_dim;
    for (int i = 0; i < dim / 2; i++) {
        double angle = s->progress.options.delay * exp(-log(10000.0) * i / (dim / 2));
        t[i] = (float)cos(angle);
        t[dim / 2 + i] = (float)sin(angle);
    }
    for (int l = 0; l < p->decoder.n_layers; l++) {
        const struct sur_cpu_layer *w = &s->state->decoder.layers[l];
        float *folded = s->decoder.ffn_norms + (size_t)l * (size_t)dim;
        sur_cpu_linear(&s->decoder, &w->ada0, NULL, t, 1, ada);
        ops->gelu(ada, (size_t)p->ada_dim);
        sur_cpu_linear(&s->decoder, &w->ada2, NULL, ada, 1, scale);
        for (int i = 0; i < dim; i++) folded[i] *= 1.0f + scale[i];
    }
    free(t);
    return SUR_OK;
}

static int session_reset(void *session)
{
    struct cpu_session *s = session;
    const struct sur_params *p = &s->state->checkpoint->params;
    memset(s->mel, 0, 2 * (size_t)p->n_mels * sizeof(float));
    memset(s->conv0, 0, (size_t)p->encoder.dim * sizeof(float));
    s->n_logits = 0;
    sur_progress_reset(&s->progress);
    sur_cpu_stack_randomize(&s->encoder, s->progress.options.start * SUR_TOKEN_ROWS);
    sur_cpu_stack_randomize(&s->decoder, s->progress.options.start);
    return SUR_OK;
}

/* Positions that one step call may take: the prompt, or SUR_STEP_MAX after it, whichever is more. */
static int step_most(const struct sur_backend_session_options *o)
{
    return o->n_prompt > SUR_STEP_MAX ? o->n_prompt : SUR_STEP_MAX;
}

/* The adapter's second product has columns of the decoder's width, and the encoder's stack gives it room. */
static size_t encoder_values(const struct sur_params *p, const struct sur_backend_session_options *o)
{
    return (size_t)o->max_tokens * (size_t)p->decoder.dim;
}

/* The session's own buffers, by how many floats they have. */
struct buffers {
    size_t mel, conv0, columns, h, adapter, x, out, logits, rows;
};

static struct buffers buffers_of(const struct sur_params *p, const struct sur_backend_session_options *o)
{
    const size_t frames = (size_t)o->max_tokens * SUR_TOKEN_FRAMES, mels = (size_t)p->n_mels,
                 e = (size_t)p->encoder.dim, dim = (size_t)p->decoder.dim, rows = (size_t)o->max_tokens * dim;
    const size_t gathered = 3 * (mels * frames > e * frames / 2 ? mels * frames : e * frames / 2);
    return (struct buffers){.mel = (2 + frames) * mels,
                            .conv0 = (1 + frames) * e,
                            .columns = gathered > rows ? gathered : rows,
                            .h = frames / 2 * e,
                            .adapter = rows,
                            .x = (size_t)step_most(o) * dim,
                            .out = SUR_STEP_MAX * dim,
                            .logits = SUR_STEP_MAX * (size_t)p->vocab_size,
                            .rows = SUR_ROW_RING * dim};
}

/* What a session needs is checked against what is free before any of it is allocated: a hostile params.json may ask for
 * windows of a million positions. K/V rings count in full, although the system gives their pages only when they are
 * first written: a session that begins must be able to go on. */
static int check_memory(const struct cpu_state *st, const struct sur_backend_session_options *o)
{
    const struct sur_params *p = &st->checkpoint->params;
    const struct buffers b = buffers_of(p, o);
    const int threads = sur_pool_size(st->pool);
    uint64_t enc =
        sur_cpu_stack_bytes(&p->encoder, st->kv, o->max_tokens * SUR_TOKEN_ROWS, 0, threads, encoder_values(p, o));
    uint64_t dec = sur_cpu_stack_bytes(&p->decoder, st->kv, step_most(o), SUR_STEP_MAX, threads, (size_t)p->ada_dim);
    uint64_t have = sur_memory_available(),
             all = enc + dec + sizeof(struct cpu_session) +
                   sizeof(float) * (b.mel + b.conv0 + b.columns + b.h + b.adapter + b.x + b.out + b.logits + b.rows);
    if (!enc || !dec || all > have)
        return sur_fail(SUR_ERR_BACKEND, "a session of this model needs %llu MiB of memory; %llu MiB are free",
                        (unsigned long long)all >> 20, (unsigned long long)have >> 20);
    return SUR_OK;
}

static int session_create(void **session, void *state, const struct sur_backend_session_options *o)
{
    struct cpu_state *st = state;
    const struct sur_params *p = &st->checkpoint->params;
    const struct buffers b = buffers_of(p, o);
    *session = NULL;
    int r = check_memory(st, o);
    if (r) return r;
    struct cpu_session *s = calloc(1, sizeof *s);
    if (!s) return sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
    s->state = st;
    sur_progress_init(&s->progress, p, o);
    r = sur_cpu_stack_init(&s->encoder, &st->encoder, st->kv, o->max_tokens * SUR_TOKEN_ROWS, 0, encoder_values(p, o));
    if (!r) r = sur_cpu_stack_init(&s->decoder, &st->decoder, st->kv, step_most(o), SUR_STEP_MAX, (size_t)p->ada_dim);
    s->mel = calloc(b.mel, sizeof(float));
    s->conv0 = calloc(b.conv0, sizeof(float));
    s->columns = calloc(b.columns, sizeof(float));
    s->h = calloc(b.h, sizeof(float));
    s->adapter = calloc(b.adapter, sizeof(float));
    s->x = calloc(b.x, sizeof(float));
    s->out = calloc(b.out, sizeof(float));
    s->logits = calloc(b.logits, sizeof(float));
    s->rows = calloc(b.rows, sizeof(float));
    if (!r &&
        (!s->mel || !s->conv0 || !s->columns || !s->h || !s->adapter || !s->x || !s->out || !s->logits || !s->rows))
        r = sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
    if (!r) r = fold_delay(s);
    if (!r) r = session_reset(s);
    if (r)
        session_destroy(s);
    else
        *session = s;
    return r;
}

/* ---- encode ---- */

/* Three taps side by side, channel major: columns[i][c * 3 + t] = x[i * stride + t][c]. */
static void gather(float *columns, const float *x, size_t channels, size_t n, size_t stride)
{
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < channels; c++)
            for (size_t t = 0; t < 3; t++) columns[(i * channels + c) * 3 + t] = x[(i * stride + t) * channels + c];
}

static void stem(struct cpu_session *s, const float *mel, size_t frames)
{
    const struct sur_checkpoint *c = s->state->checkpoint;
    const struct sur_cpu_ops *ops = s->state->ops;
    size_t mels = (size_t)c->params.n_mels, e = (size_t)c->params.encoder.dim;
    memcpy(s->mel + 2 * mels, mel, frames * mels * sizeof *mel);
    gather(s->columns, s->mel, mels, frames, 1);
    sur_cpu_linear(&s->encoder, &s->state->conv0, s->state->conv0_bias, s->columns, (int)frames, s->conv0 + e);
    ops->gelu(s->conv0 + e, frames * e);
    gather(s->columns, s->conv0, e, frames / 2, 2);
    sur_cpu_linear(&s->encoder, &s->state->conv1, s->state->conv1_bias, s->columns, (int)frames / 2, s->h);
    ops->gelu(s->h, frames / 2 * e);
    memcpy(s->mel, s->mel + frames * mels, 2 * mels * sizeof *mel);
    memcpy(s->conv0, s->conv0 + frames * e, e * sizeof *mel);
}

static int copy_rows(void *session, int put, int64_t first, int n, float *buffer)
{
    struct cpu_session *s = session;
    size_t dim = (size_t)s->progress.dim;
    for (int i = 0; i < n; i++) {
        float *row = s->rows + (size_t)((first + i) % SUR_ROW_RING) * dim, *other = buffer + (size_t)i * dim;
        memcpy(put ? row : other, put ? other : row, dim * sizeof *row);
    }
    return SUR_OK;
}

static int encode_one(const struct sur_encode_job *job, int64_t first)
{
    struct cpu_session *s = job->session;
    struct cpu_state *st = s->state;
    const struct sur_checkpoint *c = st->checkpoint;
    int n_tokens = job->n_tokens, n = n_tokens * SUR_TOKEN_ROWS, e = c->params.encoder.dim;
    stem(s, job->mel, (size_t)n_tokens * SUR_TOKEN_FRAMES);
    sur_cpu_stack_run(&s->encoder, s->h, n, first * SUR_TOKEN_ROWS);
    for (int i = 0; i < n; i++) {
        float *h = s->h + (size_t)i * (size_t)e;
        st->ops->rmsnorm(h, h, st->encoder_norm, e, (float)c->params.encoder.norm_eps);
    }
    /* Four frames of a token lie side by side already. */
    sur_cpu_linear(&s->encoder, &st->adapter0, NULL, s->h, n_tokens, s->adapter);
    st->ops->gelu(s->adapter, (size_t)n_tokens * (size_t)c->params.decoder.dim);
    float *rows = s->columns; /* free again, and large enough: see session_create */
    sur_cpu_linear(&s->encoder, &st->adapter2, NULL, s->adapter, n_tokens, rows);
    return copy_rows(s, 1, first, n_tokens, rows);
}

static int encode(struct sur_encode_job *jobs, int n_jobs)
{
    return sur_progress_encode(jobs, n_jobs, SUR_STEP_MAX, encode_one);
}

/* ---- step ---- */

/* The first that is no finite number, or n. */
static int find_not_finite(const float *x, int n)
{
    bool bad = false;
    int i = 0;
    for (int k = 0; k < n; k++) bad |= !isfinite(x[k]); /* without a way out, so that it is vectorised */
    if (!bad) return n;
    while (isfinite(x[i])) i++;
    return i;
}

static void best_four(const float *logits, int n, struct sur_step_out *out)
{
    for (int j = 0; j < SUR_TOP; j++) {
        out->top[j] = -INFINITY;
        out->top_id[j] = 0;
    }
    for (int i = 0; i < n; i++) {
        if (!(logits[i] > out->top[SUR_TOP - 1])) continue;
        int j = SUR_TOP - 1;
        for (; j > 0 && logits[i] > out->top[j - 1]; j--) {
            out->top[j] = out->top[j - 1];
            out->top_id[j] = out->top_id[j - 1];
        }
        out->top[j] = logits[i];
        out->top_id[j] = i;
    }
    const int bad = find_not_finite(logits, n);
    if (bad < n) {
        out->top[0] = NAN;
        out->top_id[0] = bad;
    }
    out->id = out->top_id[0];
    out->margin = out->top[0] - out->top[1];
}

static int step_one(const struct sur_step_job *job, int64_t first)
{
    struct cpu_session *s = job->session;
    struct cpu_state *st = s->state;
    const struct sur_checkpoint *c = st->checkpoint;
    int dim = c->params.decoder.dim, vocab = c->params.vocab_size;
    for (int i = 0; i < job->n; i++) {
        int32_t id = job->tokens ? job->tokens[i] : s->last_token;
        float *x = s->x + (size_t)i * (size_t)dim;
        const float *row = s->rows + (size_t)((first + i) % SUR_ROW_RING) * (size_t)dim;
        sur_cpu_matrix_row(&st->embedding, id, x);
        for (int d = 0; d < dim; d++) x[d] = row[d] + x[d];
    }
    sur_cpu_stack_run(&s->decoder, s->x, job->n, first);
    for (int i = 0; i < job->n_out; i++)
        st->ops->rmsnorm(s->out + (size_t)i * (size_t)dim, s->x + (size_t)(job->n - job->n_out + i) * (size_t)dim,
                         st->norm, dim, (float)c->params.decoder.norm_eps);
    if (job->n_out) sur_cpu_linear(&s->decoder, &st->embedding, NULL, s->out, job->n_out, s->logits);
    s->n_logits = job->n_out;
    for (int i = 0; i < job->n_out; i++) best_four(s->logits + (size_t)i * (size_t)vocab, vocab, &job->out[i]);
    if (job->n_out) s->last_token = job->out[job->n_out - 1].id;
    return SUR_OK;
}

static int step(struct sur_step_job *jobs, int n_jobs)
{
    return sur_progress_step(jobs, n_jobs, step_one);
}

static int rows(void *session, int put, int64_t first, int n, float *buffer)
{
    return sur_progress_rows(session, put, first, n, buffer, copy_rows);
}

static int logits(void *session, float *out)
{
    const struct cpu_session *s = session;
    const size_t vocab = (size_t)s->progress.vocab_size;
    if (!s->n_logits) return sur_fail(SUR_ERR_ARGUMENT, "no step with a result was run yet");
    memcpy(out, s->logits + (size_t)(s->n_logits - 1) * vocab, vocab * sizeof *out);
    return SUR_OK;
}

static void stats(void *state, struct sur_model_stats *stats)
{
    const struct cpu_state *s = state;
    int n = s->checkpoint->params.encoder.n_layers + s->checkpoint->params.decoder.n_layers;
    *stats = (struct sur_model_stats){.load_ns = s->load_ns, .n_layers = n, .n_resident = n};
}

const struct sur_backend sur_backend_cpu = {
    .name = "cpu",
    .weight_types = (1 << SUR_N_WEIGHT_TYPES) - 1,
    .probe = probe,
    .open = state_open,
    .close = state_close,
    .session_create = session_create,
    .session_destroy = session_destroy,
    .reset = session_reset,
    .encode = encode,
    .step = step,
    .rewind = sur_progress_rewind,
    .rows = rows,
    .logits = logits,
    .stats = stats,
};
