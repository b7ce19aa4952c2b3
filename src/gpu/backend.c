/* The table of the CUDA backend, and the module's one symbol. */
#include <stdlib.h>
#include <string.h>

#include "gpu/services.h"
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
    gpu_norms_finish(&s->norms);
    pthread_mutex_destroy(&s->encoder_slots);
    pthread_mutex_destroy(&s->decoder_slots);
    free(s);
}

static int state_open(void **state, const struct sur_checkpoint *c, const struct sur_model_options *o)
{
    int64_t start = sur_clock_ns();
    *state = NULL;
    int r = gpu_gemm_open(o->gemm, o->window_attention);
    if (r) return r;
    struct gpu_state *s = calloc(1, sizeof *s);
    if (!s) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    s->checkpoint = c;
    s->options = *o;
    gpu_norms_init(&s->norms, &s->gpu, &s->weights.decoder, c);
    pthread_mutex_init(&s->encoder_slots, NULL);
    pthread_mutex_init(&s->decoder_slots, NULL);
    /* What an ordinary session needs stays free for it: the longest usual prompt, whole files. */
    const struct sur_backend_session_options usual = {.n_prompt = 1 + 32 + 30, .max_tokens = SUR_WHOLE_TOKENS};
    r = gpu_open(&s->gpu, o->gpu);
    if (!r)
        r = gpu_weights_open(&s->weights, &s->gpu, c, o->gemm != SUR_GEMM_OWN, (int64_t)o->vram_limit_mib << 20,
                             gpu_session_bytes(c, o, &usual));
    s->load_ns = sur_clock_ns() - start;
    if (r)
        state_close(s);
    else
        *state = s;
    return r;
}

static void stats(void *state, struct sur_model_stats *out)
{
    struct gpu_state *s = state;
    const struct gpu_tower *e = &s->weights.encoder, *d = &s->weights.decoder;
    *out = (struct sur_model_stats){.load_ns = s->load_ns,
                                    .device_bytes = atomic_load(&s->gpu.memory_bytes),
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

static int encode_one(const struct sur_encode_job *job, int64_t first)
{
    struct gpu_session *s = job->session;
    size_t n = (size_t)job->n_tokens * SUR_TOKEN_FRAMES * (size_t)s->state->checkpoint->params.n_mels;
    memcpy(s->mel_in, job->mel, n * sizeof *job->mel);
    return gpu_run_encode(s, job->n_tokens, first);
}

static int encode(struct sur_encode_job *jobs, int n_jobs)
{
    return sur_progress_encode(jobs, n_jobs, SUR_STEP_MAX, encode_one);
}

/* ---- step ---- */

static int step_one(const struct sur_step_job *job, int64_t first)
{
    struct gpu_session *s = job->session;
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
    return SUR_OK;
}

static int step(struct sur_step_job *jobs, int n_jobs)
{
    return sur_progress_step(jobs, n_jobs, step_one);
}

/* ---- rows, logits ---- */

static int copy_rows(void *session, int put, int64_t first, int n, float *buffer)
{
    struct gpu_session *s = session;
    size_t dim = (size_t)s->progress.dim;
    int r = gpu_enter(&s->state->gpu);
    for (int i = 0; !r && i < n; i++) {
        CUdeviceptr at = s->rows + (size_t)((first + i) % SUR_ROW_RING) * dim * 4;
        float *row = buffer + (size_t)i * dim;
        r = put ? CHECK(cuMemcpyHtoDAsync(at, row, dim * 4, s->decoder.stream)) : CHECK(cuMemcpyDtoH(row, at, dim * 4));
    }
    return put && !r ? CHECK(cuStreamSynchronize(s->decoder.stream)) : r;
}

static int rows(void *session, int put, int64_t first, int n, float *buffer)
{
    return sur_progress_rows(session, put, first, n, buffer, copy_rows);
}

static int logits(void *session, float *out)
{
    struct gpu_session *s = session;
    if (!s->last_logits) return sur_fail(SUR_ERR_ARGUMENT, "no step with a result was run yet");
    int r = gpu_enter(&s->state->gpu);
    return r ? r : CHECK(cuMemcpyDtoH(out, s->last_logits, (size_t)s->progress.vocab_size * sizeof *out));
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
    .rewind = sur_progress_rewind,
    .rows = rows,
    .logits = logits,
    .stats = stats,
    .read_bandwidth = read_bandwidth,
};

__attribute__((visibility("default"))) const struct sur_backend *
sur_backend_cuda(uint64_t abi, const struct sur_gpu_services *services);

const struct sur_backend *sur_backend_cuda(uint64_t abi, const struct sur_gpu_services *services)
{
    if (abi != SUR_GPU_ABI) return NULL;
    gpu_set_services(services);
    return &backend;
}
