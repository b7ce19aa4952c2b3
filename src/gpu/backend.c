/* The table of the CUDA backend, and the module's one symbol. */
#include <stdlib.h>
#include <string.h>

#include "gpu/host.h"
#include "gpu/session.h"
#include "model/schedule.h"
#include "util/clock.h"
#include "util/error.h"

#define CHECK(call) gpu_check(call, #call)

/* ---- model ---- */

static void state_close(void *state)
{
    struct gpu_state *s = state;
    if (!s) return;
    if (s->gpu.context && !gpu_enter(&s->gpu)) gpu_weights_close(&s->weights, &s->gpu);
    gpu_close(&s->gpu);
    pthread_mutex_destroy(&s->encoder_slots);
    pthread_mutex_destroy(&s->decoder_slots);
    free(s);
}

static int state_open(void **state, const struct sur_checkpoint *c, const struct sur_backend_options *o)
{
    int64_t start = sur_clock_ns();
    *state = NULL;
    int r = gpu_gemm_open(o->gemm, o->window_attention);
    if (r) return r;
    struct gpu_state *s = calloc(1, sizeof *s);
    if (!s) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    s->checkpoint = c;
    s->options = *o;
    pthread_mutex_init(&s->encoder_slots, NULL);
    pthread_mutex_init(&s->decoder_slots, NULL);
    /* What an ordinary session needs stays free for it: the longest usual prompt, whole files. */
    const struct sur_backend_session_options usual = {.n_prompt = 1 + 32 + 30, .max_tokens = SUR_WHOLE_TOKENS};
    r = gpu_open(&s->gpu);
    if (!r) r = gpu_weights_open(&s->weights, &s->gpu, c, o->vram_limit_bytes, gpu_session_bytes(c, o, &usual));
    s->load_ns = sur_clock_ns() - start;
    if (r)
        state_close(s);
    else
        *state = s;
    return r;
}

static void stats(void *state, struct sur_backend_stats *out)
{
    struct gpu_state *s = state;
    const struct gpu_tower *e = &s->weights.encoder, *d = &s->weights.decoder;
    *out = (struct sur_backend_stats){.load_ns = s->load_ns,
                                      .memory_bytes = atomic_load(&s->gpu.memory_bytes),
                                      .n_layers = e->shape->n_layers + d->shape->n_layers,
                                      .n_resident = e->n_resident + d->n_resident,
                                      .uploads = atomic_load(&s->uploads),
                                      .uploaded_bytes = atomic_load(&s->uploaded_bytes)};
}

static double read_bandwidth(void *state)
{
    struct gpu_state *s = state;
    double rate = 0;
    if (gpu_enter(&s->gpu) || gpu_read_bandwidth(&s->gpu, &rate)) return 0;
    return rate;
}

/* ---- encode ---- */

/* Rows that a rewind may want again are kept. */
static bool rows_fit(struct gpu_session *s, int n)
{
    int64_t keep = atomic_load_explicit(&s->position, memory_order_acquire) - SUR_STEP_MAX;
    if (keep < s->options.start) keep = s->options.start;
    return atomic_load_explicit(&s->n_rows, memory_order_relaxed) + n - keep <= SUR_ROW_RING;
}

static int encode_one(struct gpu_session *s, const float *mel, int n_tokens)
{
    size_t n = (size_t)n_tokens * SUR_TOKEN_FRAMES * (size_t)s->state->checkpoint->params.n_mels;
    int64_t first = atomic_load_explicit(&s->n_rows, memory_order_relaxed);
    memcpy(s->mel_in, mel, n * sizeof *mel);
    int r = gpu_run_encode(s, n_tokens, first);
    if (!r) atomic_store_explicit(&s->n_rows, first + n_tokens, memory_order_release);
    return r;
}

static int encode(struct sur_encode_job *jobs, int n_jobs)
{
    for (int i = 0; i < n_jobs; i++) {
        struct gpu_session *s = jobs[i].session;
        if (jobs[i].n_tokens < 1 || jobs[i].n_tokens > s->options.max_tokens)
            return sur_fail(SUR_ERR_ARGUMENT, "encode: %d tokens in a pass of at most %d", jobs[i].n_tokens,
                            s->options.max_tokens);
        if (!rows_fit(s, jobs[i].n_tokens)) return SUR_AGAIN;
    }
    int r = SUR_OK;
    for (int i = 0; !r && i < n_jobs; i++) r = encode_one(jobs[i].session, jobs[i].mel, jobs[i].n_tokens);
    return r;
}

/* ---- step ---- */

static int check_step(const struct sur_step_job *job)
{
    struct gpu_session *s = job->session;
    int64_t first = atomic_load_explicit(&s->position, memory_order_relaxed);
    int most = first > s->options.start ? SUR_STEP_MAX : s->options.n_prompt;
    if (job->n < 1 || job->n > most || job->n_out < 0 || job->n_out > job->n || job->n_out > SUR_STEP_MAX ||
        (!job->tokens && job->n != 1))
        return sur_fail(SUR_ERR_ARGUMENT, "step: %d positions, %d results", job->n, job->n_out);
    for (int i = 0; job->tokens && i < job->n; i++)
        if (job->tokens[i] < 0 || job->tokens[i] >= s->state->checkpoint->params.vocab_size)
            return sur_fail(SUR_ERR_ARGUMENT, "token id %d is not in the model's vocabulary", job->tokens[i]);
    return first + job->n > atomic_load_explicit(&s->n_rows, memory_order_acquire) ? SUR_AGAIN : SUR_OK;
}

static int step_one(struct gpu_session *s, const struct sur_step_job *job)
{
    int64_t first = atomic_load_explicit(&s->position, memory_order_relaxed);
    for (int i = 0; i < job->n; i++) s->step_request->tokens[i] = job->tokens ? job->tokens[i] : s->last_token;
    int r = gpu_run_step(s, first, job->n, job->n_out);
    if (r) return r;
    for (int i = 0; i < job->n_out; i++) {
        struct sur_step_out *o = &job->out[i];
        memcpy(o->top_id, s->result[i].id, sizeof o->top_id);
        memcpy(o->top, s->result[i].value, sizeof o->top);
        o->id = o->top_id[0];
        o->margin = o->top[0] - o->top[1];
    }
    s->n_logits = job->n_out;
    if (job->n_out) s->last_token = job->out[job->n_out - 1].id;
    atomic_store_explicit(&s->position, first + job->n, memory_order_release);
    return SUR_OK;
}

static int step(struct sur_step_job *jobs, int n_jobs)
{
    int r = SUR_OK;
    for (int i = 0; !r && i < n_jobs; i++) r = check_step(&jobs[i]);
    for (int i = 0; !r && i < n_jobs; i++) r = step_one(jobs[i].session, &jobs[i]);
    return r;
}

static int rewind_to(void *session, int64_t position)
{
    struct gpu_session *s = session;
    int64_t now = atomic_load(&s->position);
    if (position < s->options.start || now - position > SUR_STEP_MAX ||
        position > atomic_load_explicit(&s->n_rows, memory_order_acquire))
        return sur_fail(SUR_ERR_ARGUMENT, "rewind from %lld to %lld", (long long)now, (long long)position);
    atomic_store_explicit(&s->position, position, memory_order_release);
    return SUR_OK;
}

/* ---- rows, stages ---- */

static int rows(void *session, int put, int64_t first, int n, float *buffer)
{
    struct gpu_session *s = session;
    size_t dim = (size_t)s->state->checkpoint->params.decoder.dim;
    int64_t have = atomic_load_explicit(&s->n_rows, memory_order_acquire);
    if (put && first != have)
        return sur_fail(SUR_ERR_ARGUMENT, "rows: %lld put after %lld", (long long)first, (long long)have);
    if (put && (n > SUR_ROW_RING || !rows_fit(s, n))) return SUR_AGAIN;
    if (!put && (first < 0 || n < 0 || first < have - SUR_ROW_RING || first + n > have))
        return sur_fail(SUR_ERR_ARGUMENT, "rows: not there");
    int r = gpu_enter(&s->state->gpu);
    for (int i = 0; !r && i < n; i++) {
        CUdeviceptr at = s->rows + (size_t)((first + i) % SUR_ROW_RING) * dim * 4;
        float *row = buffer + (size_t)i * dim;
        r = put ? CHECK(cuMemcpyHtoD(at, row, dim * 4)) : CHECK(cuMemcpyDtoH(row, at, dim * 4));
    }
    /* copies into the device may still be under way when the call returns; steps run on another stream */
    if (put && !r) r = CHECK(cuCtxSynchronize());
    if (put && !r) atomic_store_explicit(&s->n_rows, first + n, memory_order_release);
    return r;
}

static int64_t stage(void *session, const char *which, int64_t first, float *out, size_t max)
{
    struct gpu_session *s = session;
    const struct sur_params *p = &s->state->checkpoint->params;
    if (!strcmp(which, "rows")) {
        int64_t n = atomic_load(&s->n_rows) - first, most = (int64_t)(max / (size_t)p->decoder.dim);
        n = n < most ? n : most;
        n = n < SUR_ROW_RING ? n : SUR_ROW_RING;
        int r = rows(session, 0, first, (int)n, out);
        return r ? r : n * p->decoder.dim;
    }
    if (!strcmp(which, "logits") && s->n_logits && max >= (size_t)p->vocab_size) {
        size_t n_bytes = (size_t)p->vocab_size * sizeof *out;
        int r = gpu_enter(&s->state->gpu);
        if (!r) r = CHECK(cuMemcpyDtoH(out, s->logits + (size_t)(s->n_logits - 1) * n_bytes, n_bytes));
        return r ? r : p->vocab_size;
    }
    return sur_fail(SUR_ERR_ARGUMENT, "no stage \"%s\" here", which);
}

static const struct sur_backend backend = {
    .name = "cuda",
    .probe = gpu_probe,
    .open = state_open,
    .close = state_close,
    .session_create = gpu_session_create,
    .session_destroy = gpu_session_destroy,
    .reset = gpu_session_reset,
    .encode = encode,
    .step = step,
    .rewind = rewind_to,
    .rows = rows,
    .stats = stats,
    .read_bandwidth = read_bandwidth,
    .stage = stage,
};

__attribute__((visibility("default"))) const struct sur_backend *sur_backend_cuda(int abi,
                                                                                  const struct sur_gpu_host *host);

const struct sur_backend *sur_backend_cuda(int abi, const struct sur_gpu_host *host)
{
    if (abi != SUR_GPU_ABI) return NULL;
    gpu_set_host(host);
    return &backend;
}
