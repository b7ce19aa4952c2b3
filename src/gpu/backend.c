/* The table of the CUDA backend, and the module's one symbol. */
#include <stdlib.h>
#include <string.h>

#include "gpu/host.h"
#include "gpu/session.h"
#include "gpu_abi.h"
#include "model/schedule.h"
#include "util/clock.h"
#include "util/error.h"

/* ---- model ---- */

static void state_close(void *state)
{
    struct gpu_state *s = state;
    if (!s) return;
    if (s->gpu.context) {
        gpu_enter_to_free(&s->gpu);
        gpu_weights_close(&s->weights, &s->gpu);
    }
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
    r = gpu_open(&s->gpu, o->gpu - 1);
    if (!r)
        r = gpu_weights_open(&s->weights, &s->gpu, c, o->gemm != SUR_GEMM_OWN, o->vram_limit_bytes,
                             gpu_session_bytes(c, o, &usual));
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

static int encode_one(struct gpu_session *s, const float *mel, int n_tokens)
{
    size_t n = (size_t)n_tokens * SUR_TOKEN_FRAMES * (size_t)s->state->checkpoint->params.n_mels;
    int64_t first = sur_progress_rows(&s->progress);
    memcpy(s->mel_in, mel, n * sizeof *mel);
    int r = gpu_run_encode(s, n_tokens, first);
    if (!r) sur_progress_encoded(&s->progress, first + n_tokens);
    return r;
}

static int encode(struct sur_encode_job *jobs, int n_jobs)
{
    for (int i = 0; i < n_jobs; i++) {
        struct gpu_session *s = jobs[i].session;
        int r = sur_progress_check_encode(&s->progress, &s->options, jobs[i].n_tokens, SUR_STEP_MAX);
        if (r) return r;
    }
    int r = SUR_OK;
    for (int i = 0; !r && i < n_jobs; i++) r = encode_one(jobs[i].session, jobs[i].mel, jobs[i].n_tokens);
    return r;
}

/* ---- step ---- */

static int check_step(const struct sur_step_job *job)
{
    struct gpu_session *s = job->session;
    return sur_progress_check_step(&s->progress, &s->options, job, s->state->checkpoint->params.vocab_size);
}

static int step_one(struct gpu_session *s, const struct sur_step_job *job)
{
    int64_t first = sur_progress_position(&s->progress);
    const struct sur_gpu_top *result;
    int r = gpu_run_step(s, first, job->n, job->tokens ? job->tokens : &s->last_token, job->n_out, &result);
    if (r) return r;
    for (int i = 0; i < job->n_out; i++) {
        struct sur_step_out *o = &job->out[i];
        memcpy(o->top_id, result[i].id, sizeof o->top_id);
        memcpy(o->top, result[i].value, sizeof o->top);
        o->id = o->top_id[0];
        o->margin = o->top[0] - o->top[1];
    }
    sur_progress_stepped(&s->progress, first + job->n);
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
    return sur_progress_rewind(&s->progress, &s->options, position);
}

/* ---- rows, stages ---- */

static int rows(void *session, int put, int64_t first, int n, float *buffer)
{
    struct gpu_session *s = session;
    size_t dim = (size_t)s->state->checkpoint->params.decoder.dim;
    int r = sur_progress_check_rows(&s->progress, &s->options, put, first, n);
    if (!r) r = gpu_enter(&s->state->gpu);
    for (int i = 0; !r && i < n; i++) {
        CUdeviceptr at = s->rows + (size_t)((first + i) % SUR_ROW_RING) * dim * 4;
        float *row = buffer + (size_t)i * dim;
        r = put ? CHECK(cuMemcpyHtoDAsync(at, row, dim * 4, s->decoder.stream)) : CHECK(cuMemcpyDtoH(row, at, dim * 4));
    }
    if (put && !r) r = CHECK(cuStreamSynchronize(s->decoder.stream));
    if (put && !r) sur_progress_encoded(&s->progress, first + n);
    return r;
}

static int64_t stage(void *session, const char *which, int64_t first, float *out, size_t max)
{
    struct gpu_session *s = session;
    const struct sur_params *p = &s->state->checkpoint->params;
    if (!strcmp(which, "rows")) {
        int n = sur_progress_stage_rows(&s->progress, first, max, p->decoder.dim);
        int r = rows(session, 0, first, n, out);
        return r ? r : (int64_t)n * p->decoder.dim;
    }
    if (!strcmp(which, "logits") && s->last_logits && max >= (size_t)p->vocab_size) {
        size_t n_bytes = (size_t)p->vocab_size * sizeof *out;
        int r = gpu_enter(&s->state->gpu);
        if (!r) r = CHECK(cuMemcpyDtoH(out, s->last_logits, n_bytes));
        return r ? r : p->vocab_size;
    }
    return sur_fail(SUR_ERR_ARGUMENT, "no stage \"%s\" here", which);
}

static const struct sur_backend backend = {
    .name = "cuda",
    .weight_types = 1 << SUR_WEIGHT_BF16,
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

__attribute__((visibility("default"))) const struct sur_backend *sur_backend_cuda(uint64_t abi,
                                                                                  const struct sur_gpu_host *host);

const struct sur_backend *sur_backend_cuda(uint64_t abi, const struct sur_gpu_host *host)
{
    if (abi != SUR_GPU_ABI) return NULL;
    gpu_set_host(host);
    return &backend;
}
