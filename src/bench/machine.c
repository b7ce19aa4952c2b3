/* Times are measured with random weights of the published layer sizes, few layers of them, and multiplied by the number
 * of layers; the head is measured apart, as a step with results less a step without, and multiplied by the vocabulary.
 * Before every pass the probe's buffer is read, so that no weights are left in a cache: in the whole model each layer
 * evicts the one before. */
#include "bench/machine.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench/count.h"
#include "bench/probe.h"
#include "bench/synthetic.h"
#include "cpu/backend.h"
#include "cpu/isa.h"
#include "cpu/pool.h"
#include "model/schedule.h"
#include "util/clock.h"

enum { MIN_PASSES = 3, MAX_PASSES = 31, TYPE_MS = 900, FULL_CONTEXT = 8000, PROMPT = 39, TOKEN_MS = 80 };

/* From best to smallest. */
static const char *const types[] = {"bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"};
enum { N_TYPES = sizeof types / sizeof *types, BF16 = 0 };

struct estimate {
    double bytes;           /* weights and one session */
    double step_ms, row_ms; /* a decoder step; encoding a token */
};

struct machine {
    struct sur_model_options options;
    struct sur_pool *pool;
    struct probe probe;
    double total, available; /* bytes of memory */
    bool gpu;
};

/* Bytes of a line of /proc/meminfo, which counts in KiB; 0 where there is none. */
static double memory_of(const char *name)
{
    char line[128];
    double kib = 0;
    FILE *f = fopen("/proc/meminfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name))) kib = strtod(line + strlen(name), NULL);
    if (f) fclose(f);
    return kib * 1024;
}

/* ---- measuring ---- */

struct sample {
    void *state, *stepper, *encoder; /* the backend's; a session per half */
    float *data;                     /* mel of a token, or a row */
};

static int time_step(struct machine *m, const struct sample *s, int n_out, double *ms)
{
    int32_t token = 100;
    struct sur_step_out out;
    struct sur_step_job job = {.session = s->stepper, .n = 1, .tokens = &token, .n_out = n_out, .out = &out};
    probe_read(&m->probe);
    int r = sur_backend_cpu.rewind(s->stepper, FULL_CONTEXT);
    const int64_t t = sur_clock_ns();
    if (!r) r = sur_backend_cpu.step(&job, 1);
    *ms = (double)(sur_clock_ns() - t) * 1e-6;
    return r;
}

static int time_encode(struct machine *m, const struct sample *s, double *ms)
{
    struct sur_encode_job job = {s->encoder, 1, s->data};
    probe_read(&m->probe);
    int r = sur_backend_cpu.reset(s->encoder);
    const int64_t t = sur_clock_ns();
    if (!r) r = sur_backend_cpu.encode(&job, 1);
    *ms = (double)(sur_clock_ns() - t) * 1e-6;
    return r;
}

static int open_sample(struct machine *m, struct sample *s, const struct sur_checkpoint *c)
{
    const struct sur_params *p = &c->params;
    const int far = p->encoder.window / SUR_TOKEN_ROWS + 1, mel = SUR_TOKEN_FRAMES * p->n_mels;
    const size_t n = (size_t)(mel > p->decoder.dim ? mel : p->decoder.dim);
    struct sur_backend_session_options step = {.delay = 6, .n_prompt = PROMPT, .max_tokens = 1, .start = FULL_CONTEXT};
    struct sur_backend_session_options encode = {.delay = 6, .n_prompt = PROMPT, .max_tokens = 1, .start = far};
    s->data = malloc(n * sizeof *s->data);
    int r = s->data ? 0 : -1;
    for (size_t i = 0; !r && i < n; i++) s->data[i] = (float)(i % 17) / 8 - 1;
    if (!r) r = sur_backend_cpu.open(&s->state, c, &m->options);
    if (!r) r = sur_backend_cpu.session_create(&s->stepper, s->state, &step);
    if (!r) r = sur_backend_cpu.session_create(&s->encoder, s->state, &encode);
    return r ? r : sur_backend_cpu.rows(s->stepper, 1, FULL_CONTEXT, 1, s->data);
}

static void close_sample(struct sample *s)
{
    if (s->stepper) sur_backend_cpu.session_destroy(s->stepper);
    if (s->encoder) sur_backend_cpu.session_destroy(s->encoder);
    if (s->state) sur_backend_cpu.close(s->state);
    free(s->data);
}

/* Times in ms: the decoder's layers, those and the head, the encoder. The lower quartile of the passes, because what
 * other programs take away is not this computer's. */
static int measure(struct machine *m, const struct sample *s, double times[3])
{
    double ms[3][MAX_PASSES], warm;
    int n = 0, r = time_step(m, s, 1, &warm);
    if (!r) r = time_encode(m, s, &warm);
    const int64_t end = sur_clock_ns() + (int64_t)TYPE_MS * 1000000;
    for (; !r && n < MAX_PASSES && (n < MIN_PASSES || sur_clock_ns() < end); n++) {
        r = time_step(m, s, 0, &ms[0][n]);
        if (!r) r = time_step(m, s, 1, &ms[1][n]);
        if (!r) r = time_encode(m, s, &ms[2][n]);
    }
    for (int i = 0; !r && i < 3; i++) times[i] = count_quantile(ms[i], n, 0.25);
    return r;
}

static double session_bytes(const struct machine *m)
{
    const struct sur_backend_session_options o = {.n_prompt = PROMPT, .max_tokens = 1};
    return (double)sur_cpu_session_bytes(&synthetic_full, m->options.kv, m->options.threads, &o);
}

/* From what was measured with part of the layers to all of them. */
static void scale(const struct machine *m, const struct sur_checkpoint *c, const double times[3], struct estimate *e)
{
    const struct sur_params *part = &c->params, *full = &synthetic_full;
    const struct sur_weights *w = &c->weights;
    const double more_decoder = (double)full->decoder.n_layers / part->decoder.n_layers,
                 more_encoder = (double)full->encoder.n_layers / part->encoder.n_layers,
                 more_words = (double)full->vocab_size / part->vocab_size;
    const double decoder = (double)count_tower(w->decoder, part->decoder.n_layers, count_bytes),
                 encoder = (double)count_tower(w->encoder, part->encoder.n_layers, count_bytes),
                 kv = (double)count_kv_bytes(&part->encoder, part->encoder.window, m->options.kv),
                 once = (double)(count_bytes(&w->conv0) + count_bytes(&w->conv1) + count_bytes(&w->adapter0) +
                                 count_bytes(&w->adapter2)); /* stem and adapter */
    const double head_ms = times[1] > times[0] ? times[1] - times[0] : 0;
    e->bytes = decoder * more_decoder + encoder * more_encoder + once +
               (double)count_bytes(&w->embedding) * more_words + session_bytes(m);
    e->step_ms = times[0] * more_decoder + head_ms * more_words;
    e->row_ms = times[2] * ((encoder + kv) * more_encoder + once) / (encoder + kv + once);
}

static int estimate(struct machine *m, const char *type, struct estimate *e)
{
    struct sur_checkpoint c;
    struct sample s = {0};
    double times[3];
    int r = synthetic_create(&c, "part", type, m->pool);
    if (!r) r = open_sample(m, &s, &c);
    if (!r) r = measure(m, &s, times);
    if (!r) scale(m, &c, times, e);
    close_sample(&s);
    synthetic_destroy(&c);
    return r;
}

/* ---- words ---- */

static void tell_machine(struct machine *m)
{
    const struct sur_cpu_isa *isa;
    const struct sur_backend *gpu;
    const int cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
    double load = 0;
    printf("processor  %d cores, %d threads used", cores, m->options.threads);
    if (!sur_cpu_isa_select(&isa, m->options.cpu)) printf("; %s, integers %s", isa->ops->name, isa->quant->name);
    printf("\nmemory     %.1f GB, %.1f GB of it free\n", m->total * 1e-9, m->available * 1e-9);
    m->gpu = sur_backend_choose(&gpu, SUR_BACKEND_CUDA) == SUR_OK;
    if (m->gpu)
        printf("GPU        usable; bf16 needs 11 GB of its memory (surtitle-bench --synthetic full measures it)\n");
    else
        printf("GPU        none: %s\n", sur_error_text());
    if (getloadavg(&load, 1) == 1 && load > 0.5)
        printf("busy       other programs are at work (load %.1f): times come out too long, repeat it without them\n",
               load);
    fflush(stdout);
}

static void tell_reads(struct machine *m)
{
    enum { N = 5 };
    double read[N];
    for (int i = 0; i < N; i++) read[i] = probe_read(&m->probe);
    printf("reads      %.1f GB/s\n\n", count_quantile(read, N, 0.5) * 1e-9);
    printf("The published model, estimated from a few layers, once ten minutes of speech are in its window:\n");
    fflush(stdout);
}

static double token_ms(const struct estimate *e)
{
    return e->step_ms + e->row_ms;
}

static void tell_type(const struct machine *m, const char *type, const struct estimate *e)
{
    const double ms = token_ms(e), spare = TOKEN_MS / ms;
    printf("%-7s %4.1f GB, about %.0f ms of %d ms a token: ", type, e->bytes * 1e-9, ms, TOKEN_MS);
    if (spare >= 1)
        printf("%s, %.1f times faster than speech", spare >= 1.1 ? "live" : "hardly live", spare);
    else
        printf("not live, %.1f times slower than speech", 1 / spare);
    if (e->bytes > m->total)
        printf("; does not fit into memory");
    else if (e->bytes > m->available)
        printf("; fits when %.1f GB more of the memory are free", (e->bytes - m->available) * 1e-9);
    printf("\n");
    fflush(stdout);
}

/* The first type below bf16 (which q8_0 equals) with a quarter to spare, else the fastest that is live. */
static void advise(const struct machine *m, const struct estimate *all)
{
    int best = -1, fastest = -1;
    for (int i = BF16 + 1; i < N_TYPES; i++) {
        if (all[i].bytes > m->available) continue;
        if (best < 0 && token_ms(&all[i]) * 1.25 <= TOKEN_MS) best = i;
        if (fastest < 0 || token_ms(&all[i]) < token_ms(&all[fastest])) fastest = i;
    }
    if (best < 0 && fastest >= 0 && token_ms(&all[fastest]) <= TOKEN_MS) best = fastest;
    if (m->gpu) printf("If 11 GB of the GPU's memory are free, take bf16 there. On the processor:\n");
    if (best >= 0)
        printf("Take %s: tools/download_model.sh --type %s\n", types[best], types[best]);
    else if (fastest >= 0)
        printf("None of these is live here. For live captions take the bundled model, or a GPU of 12 GB; for files "
               "take %s,\n"
               "which needs %.1f times as long as the sound: tools/download_model.sh --type %s\n",
               types[fastest], token_ms(&all[fastest]) / TOKEN_MS, types[fastest]);
    else
        printf("There is not memory enough for the published model: take the bundled one.\n");
}

int machine_report(const struct sur_model_options *options)
{
    static struct machine m;
    struct estimate all[N_TYPES];
    const double needed = 1.5e9;
    m.options = *options;
    m.total = memory_of("MemTotal:"), m.available = memory_of("MemAvailable:");
    tell_machine(&m);
    if (m.available < needed) {
        printf("There is not memory enough for the published model: take the bundled one.\n");
        return 0;
    }
    int r = sur_pool_create(&m.pool, m.options.threads);
    if (!r) r = probe_init(&m.probe, m.pool, (size_t)256 << 20);
    if (!r) tell_reads(&m);
    for (int i = 0; !r && i < N_TYPES; i++) {
        r = estimate(&m, types[i], &all[i]);
        if (!r) tell_type(&m, types[i], &all[i]);
    }
    if (!r) advise(&m, all);
    if (r) fprintf(stderr, "surtitle-bench: %s\n", *sur_error_text() ? sur_error_text() : "not enough memory");
    probe_finish(&m.probe);
    sur_pool_destroy(&m.pool);
    return r ? 1 : 0;
}
