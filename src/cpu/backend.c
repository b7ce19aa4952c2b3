#include "cpu/backend.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/buffers.h"
#include "cpu/gemm.h"
#include "cpu/os_memory.h"
#include "cpu/tower.h"
#include "model/progress.h"
#include "model/schedule.h"
#include "util/clock.h"
#include "util/error.h"

/* The decoder's second norms for a delay, shared by the sessions with that delay. */
struct delay_norms {
    struct delay_norms *next;
    int delay, n_users;
    float norms[]; /* [n_layers, dim] */
};

struct cpu_state {
    /* immutable after open */
    const struct sur_checkpoint *checkpoint;
    enum sur_kv_type kv;
    const struct sur_cpu_ops *ops;
    struct sur_cpu_products products;
    struct sur_cpu_tower encoder, decoder;
    struct sur_cpu_matrix conv0, conv1, adapter0, adapter2, embedding;
    struct sur_cpu_arena arena; /* of the packed matrices */
    float *conv0_bias, *conv1_bias, *encoder_norm, *norm;
    int64_t load_ns;
    /* any thread, under the lock */
    pthread_mutex_t norms_lock;
    struct delay_norms *norms;
};

struct cpu_session {
    struct sur_progress progress; /* first: see model/progress.h */
    /* immutable after create */
    struct cpu_state *state;
    struct delay_norms *norms;
    /* encode thread */
    struct sur_cpu_rings encoder_rings;
    struct sur_cpu_workspace encoder_work;
    float *mel;     /* [2 + max frames, n_mels]; the first two are carried */
    float *conv0;   /* [1 + max frames, e]; the first is carried */
    float *columns; /* the stem's gathered inputs: [max frames, 3 * n_mels] or [max frames / 2, 3 * e] */
    float *h;       /* [max frames / 2, e] */
    float *adapter; /* [max tokens, dim] */
    /* decode thread */
    struct sur_cpu_rings decoder_rings;
    struct sur_cpu_workspace decoder_work;
    float *x;      /* [step_most, dim] */
    float *out;    /* [SUR_STEP_MAX, dim] */
    float *logits; /* [SUR_STEP_MAX, vocab]; the last step's row is the last of n_out */
    int n_logits;
    int32_t last_token;
    /* between the two, as progress says: rows [SUR_ROW_RING, dim] */
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
    sur_pool_destroy(&s->products.pool);
    pthread_mutex_destroy(&s->norms_lock);
    free(s->conv0_bias);
    free(s->conv1_bias);
    free(s->encoder_norm);
    free(s->norm);
    free(s);
}

/* Packs the quantised matrices. */
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
    int r = sur_cpu_arena_pack(&s->arena, all, n, s->products.pool);
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
    pthread_mutex_init(&s->norms_lock, NULL);
    const struct sur_cpu_isa *isa;
    int r = sur_cpu_isa_select(&isa, options->cpu);
    if (!r && options->gemm == SUR_GEMM_LT)
        r = sur_fail(SUR_ERR_ARGUMENT, "--gemm lt is for the CUDA backend: own, blas");
    if (!r && options->window_attention != SUR_ATTENTION_OWN)
        r = sur_fail(SUR_ERR_ARGUMENT, "--window-attention gemm is for the CUDA backend: own");
    if (!r && options->gpu >= 0) r = sur_fail(SUR_ERR_ARGUMENT, "--gpu is for the CUDA backend");
    if (!r && options->vram_limit_mib) r = sur_fail(SUR_ERR_ARGUMENT, "--vram-limit is for the CUDA backend");
    if (!r && options->gemm == SUR_GEMM_BLAS) r = sur_blas_open();
    if (!r) r = sur_pool_create(&s->products.pool, options->threads);
    if (!r) {
        s->ops = isa->ops;
        s->products.matmul = options->gemm == SUR_GEMM_BLAS ? sur_blas_matmul : isa->ops->matmul;
        s->products.quant = isa->quant;
        r = sur_cpu_tower_open(&s->encoder, &c->params.encoder, c->weights.encoder, s->ops, &s->products);
    }
    if (!r) r = sur_cpu_tower_open(&s->decoder, &c->params.decoder, c->weights.decoder, s->ops, &s->products);
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
    s->load_ns += sur_clock_ns();
    if (r)
        state_close(s);
    else
        *state = s;
    return r;
}

/* ---- norms of a delay ---- */

/* y = w x (+ bias) over n columns, by the groups of a workspace. */
static void linear(const struct cpu_state *s, const struct sur_cpu_workspace *work, const struct sur_cpu_matrix *w,
                   const float *bias, const float *x, int n, float *y)
{
    const struct sur_cpu_product p = {
        .w = w, .bias = bias, .x = x, .n = n, .groups = work->groups, .y = y, .y_stride = (size_t)w->view->rows};
    sur_cpu_product_run(&s->products, &p);
}

/* Norms ffn_norm * (1 + W2(GELU(W0(t)))), t from the delay. */
static struct delay_norms *fold_delay(const struct cpu_state *s, const struct sur_cpu_workspace *work, int delay)
{
    const struct sur_params *p = &s->checkpoint->params;
    const size_t dim = (size_t)p->decoder.dim, n_layers = (size_t)p->decoder.n_layers;
    struct delay_norms *folded = malloc(sizeof *folded + n_layers * dim * sizeof *folded->norms);
    float *t = malloc(sizeof *t * (dim * 2 + (size_t)p->ada_dim));
    if (!folded || !t) {
        free(folded);
        free(t);
        return NULL;
    }
    *folded = (struct delay_norms){.delay = delay};
    float *ada = t + dim, *scale = ada + p->ada_dim;
    for (size_t i = 0; i < dim / 2; i++) {
        double angle = delay * exp(-log(10000.0) * (double)i / (double)(dim / 2));
        t[i] = (float)cos(angle);
        t[dim / 2 + i] = (float)sin(angle);
    }
    for (size_t l = 0; l < n_layers; l++) {
        const struct sur_cpu_layer *w = &s->decoder.layers[l];
        linear(s, work, &w->ada0, NULL, t, 1, ada);
        s->ops->gelu(ada, (size_t)p->ada_dim);
        linear(s, work, &w->ada2, NULL, ada, 1, scale);
        for (size_t i = 0; i < dim; i++) folded->norms[l * dim + i] = w->ffn_norm[i] * (1.0f + scale[i]);
    }
    free(t);
    return folded;
}

/* Gives the session the norms of its delay: those of another session, or new ones. */
static int acquire_norms(struct cpu_session *s)
{
    struct cpu_state *st = s->state;
    const int delay = s->progress.options.delay;
    pthread_mutex_lock(&st->norms_lock);
    struct delay_norms *n = st->norms;
    while (n && n->delay != delay) n = n->next;
    if (!n && (n = fold_delay(st, &s->decoder_work, delay))) {
        n->next = st->norms;
        st->norms = n;
    }
    if (n) n->n_users++;
    s->norms = n;
    pthread_mutex_unlock(&st->norms_lock);
    return n ? SUR_OK : sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
}

static void release_norms(struct cpu_session *s)
{
    struct cpu_state *st = s->state;
    if (!s->norms) return;
    pthread_mutex_lock(&st->norms_lock);
    if (--s->norms->n_users == 0) {
        struct delay_norms **at = &st->norms;
        while (*at != s->norms) at = &(*at)->next;
        *at = s->norms->next;
        free(s->norms);
    }
    pthread_mutex_unlock(&st->norms_lock);
}

/* ---- session ---- */

static void session_destroy(void *session)
{
    struct cpu_session *s = session;
    if (!s) return;
    release_norms(s);
    sur_cpu_rings_finish(&s->encoder_rings);
    sur_cpu_rings_finish(&s->decoder_rings);
    sur_cpu_workspace_finish(&s->encoder_work);
    sur_cpu_workspace_finish(&s->decoder_work);
    float *all[] = {s->mel, s->conv0, s->columns, s->h, s->adapter, s->x, s->out, s->logits, s->rows};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
    free(s);
}

static int session_reset(void *session)
{
    struct cpu_session *s = session;
    const struct sur_params *p = &s->state->checkpoint->params;
    memset(s->mel, 0, 2 * (size_t)p->n_mels * sizeof(float));
    memset(s->conv0, 0, (size_t)p->encoder.dim * sizeof(float));
    s->n_logits = 0;
    sur_progress_reset(&s->progress);
    sur_cpu_rings_randomize(&s->encoder_rings, s->progress.options.start * SUR_TOKEN_ROWS);
    sur_cpu_rings_randomize(&s->decoder_rings, s->progress.options.start);
    return SUR_OK;
}

/* Positions that one step call may take: the prompt, or SUR_STEP_MAX after it, whichever is more. */
static int step_most(const struct sur_backend_session_options *o)
{
    return o->n_prompt > SUR_STEP_MAX ? o->n_prompt : SUR_STEP_MAX;
}

enum { N_BUFFERS = 9 };

static void list_buffers(struct sur_cpu_buffer list[N_BUFFERS], struct cpu_session *s, const struct sur_params *p,
                         const struct sur_backend_session_options *o)
{
    const uint64_t frames = (uint64_t)o->max_tokens * SUR_TOKEN_FRAMES, mels = (uint64_t)p->n_mels,
                   e = (uint64_t)p->encoder.dim, dim = (uint64_t)p->decoder.dim, rows = (uint64_t)o->max_tokens * dim;
    const uint64_t gathered = 3 * (mels * frames > e * frames / 2 ? mels * frames : e * frames / 2);
    const struct sur_cpu_buffer all[N_BUFFERS] = {{&s->mel, (2 + frames) * mels},
                                                  {&s->conv0, (1 + frames) * e},
                                                  {&s->columns, gathered > rows ? gathered : rows},
                                                  {&s->h, frames / 2 * e},
                                                  {&s->adapter, rows},
                                                  {&s->x, (uint64_t)step_most(o) * dim},
                                                  {&s->out, SUR_STEP_MAX * dim},
                                                  {&s->logits, SUR_STEP_MAX * (uint64_t)p->vocab_size},
                                                  {&s->rows, SUR_ROW_RING * dim}};
    memcpy(list, all, sizeof all);
}

/* Values in the columns of the adapter's second product, which shares the groups of the encoder's workspace. */
static size_t encoder_values(const struct sur_params *p, const struct sur_backend_session_options *o)
{
    return (size_t)o->max_tokens * (size_t)p->decoder.dim;
}

uint64_t sur_cpu_session_bytes(const struct sur_params *p, enum sur_kv_type kv, int threads,
                               const struct sur_backend_session_options *o)
{
    struct cpu_session s;
    struct sur_cpu_buffer list[N_BUFFERS];
    list_buffers(list, &s, p, o);
    const int rows = o->max_tokens * SUR_TOKEN_ROWS, steps = step_most(o);
    const uint64_t encoder = sur_cpu_rings_bytes(&p->encoder, kv, rows),
                   decoder = sur_cpu_rings_bytes(&p->decoder, kv, steps + SUR_STEP_MAX),
                   norms = sizeof(float) * (uint64_t)p->decoder.n_layers * (uint64_t)p->decoder.dim;
    if (!encoder || !decoder) return 0;
    return sizeof s + encoder + decoder + norms + sur_cpu_buffers_bytes(list, N_BUFFERS) +
           sur_cpu_workspace_bytes(&p->encoder, rows, threads, encoder_values(p, o)) +
           sur_cpu_workspace_bytes(&p->decoder, steps, threads, (size_t)p->ada_dim);
}

/* The size of a session is compared with the free memory before anything is allocated, because a hostile params.json
 * may ask for windows of a million positions. K/V rings count in full, although the system provides their pages only
 * when they are first written: a session that begins must be able to continue. */
static int check_memory(const struct cpu_state *st, const struct sur_backend_session_options *o)
{
    const uint64_t have = sur_memory_available(),
                   all = sur_cpu_session_bytes(&st->checkpoint->params, st->kv, sur_pool_size(st->products.pool), o);
    if (!all) return sur_fail(SUR_ERR_BACKEND, "the model's windows are too large");
    if (all > have)
        return sur_fail(SUR_ERR_BACKEND, "a session of this model needs %llu MiB of memory; %llu MiB are free",
                        (unsigned long long)all >> 20, (unsigned long long)have >> 20);
    return SUR_OK;
}

static int create_parts(struct cpu_session *s)
{
    struct cpu_state *st = s->state;
    const struct sur_params *p = &st->checkpoint->params;
    const struct sur_backend_session_options *o = &s->progress.options;
    const int rows = o->max_tokens * SUR_TOKEN_ROWS, steps = step_most(o), threads = sur_pool_size(st->products.pool);
    struct sur_cpu_buffer list[N_BUFFERS];
    list_buffers(list, s, p, o);
    if (!sur_cpu_buffers_allocate(list, N_BUFFERS)) return sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
    int r = sur_cpu_rings_init(&s->encoder_rings, &p->encoder, st->kv, rows);
    if (!r) r = sur_cpu_rings_init(&s->decoder_rings, &p->decoder, st->kv, steps + SUR_STEP_MAX);
    if (!r) r = sur_cpu_workspace_init(&s->encoder_work, &p->encoder, rows, threads, encoder_values(p, o));
    if (!r) r = sur_cpu_workspace_init(&s->decoder_work, &p->decoder, steps, threads, (size_t)p->ada_dim);
    if (!r) r = acquire_norms(s);
    return r ? r : session_reset(s);
}

static int session_create(void **session, void *state, const struct sur_backend_session_options *o)
{
    struct cpu_state *st = state;
    *session = NULL;
    int r = check_memory(st, o);
    if (r) return r;
    struct cpu_session *s = calloc(1, sizeof *s);
    if (!s) return sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
    s->state = st;
    sur_progress_init(&s->progress, &st->checkpoint->params, o);
    r = create_parts(s);
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
    linear(s->state, &s->encoder_work, &s->state->conv0, s->state->conv0_bias, s->columns, (int)frames, s->conv0 + e);
    ops->gelu(s->conv0 + e, frames * e);
    gather(s->columns, s->conv0, e, frames / 2, 2);
    linear(s->state, &s->encoder_work, &s->state->conv1, s->state->conv1_bias, s->columns, (int)frames / 2, s->h);
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
    sur_cpu_tower_run(&st->encoder, &s->encoder_rings, &s->encoder_work, NULL, s->h, n, first * SUR_TOKEN_ROWS);
    for (int i = 0; i < n; i++) {
        float *h = s->h + (size_t)i * (size_t)e;
        st->ops->rmsnorm(h, h, st->encoder_norm, e, (float)c->params.encoder.norm_eps);
    }
    /* The four frames of a token are contiguous: one column of the adapter. */
    linear(s->state, &s->encoder_work, &st->adapter0, NULL, s->h, n_tokens, s->adapter);
    st->ops->gelu(s->adapter, (size_t)n_tokens * (size_t)c->params.decoder.dim);
    float *rows = s->columns; /* not needed any more, and large enough: see list_buffers */
    linear(s->state, &s->encoder_work, &st->adapter2, NULL, s->adapter, n_tokens, rows);
    return copy_rows(s, 1, first, n_tokens, rows);
}

static int encode(struct sur_encode_job *jobs, int n_jobs)
{
    return sur_progress_encode(jobs, n_jobs, SUR_STEP_MAX, encode_one);
}

/* ---- step ---- */

/* Returns the index of the first number that is not finite, or n. */
static int find_not_finite(const float *x, int n)
{
    bool bad = false;
    int i = 0;
    for (int k = 0; k < n; k++) bad |= !isfinite(x[k]); /* without an early exit, so that it is vectorised */
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
    sur_cpu_tower_run(&st->decoder, &s->decoder_rings, &s->decoder_work, s->norms->norms, s->x, job->n, first);
    for (int i = 0; i < job->n_out; i++)
        st->ops->rmsnorm(s->out + (size_t)i * (size_t)dim, s->x + (size_t)(job->n - job->n_out + i) * (size_t)dim,
                         st->norm, dim, (float)c->params.decoder.norm_eps);
    if (job->n_out) linear(s->state, &s->decoder_work, &st->embedding, NULL, s->out, job->n_out, s->logits);
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
