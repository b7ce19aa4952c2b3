/* surtitle-bench: measures each phase of the model, and its share of what the machine can do.
 *
 * Bytes are counted, not guessed: the weights a phase reads once, plus the keys and values it looks at. The machine's
 * read bandwidth and its rate of multiply-adds are probed in the same process, before every repetition, because they
 * drift with what else runs; shares are of medians. A backend with memory of its own probes that, once a phase, and
 * nothing is measured of the processor then; repetitions follow one another as passes over a file do, after as many as
 * it takes for the GPU to leave the clocks at which it waits. */
#include <getopt.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend_choice.h"
#include "bench/count.h"
#include "bench/machine.h"
#include "bench/probe.h"
#include "bench/synthetic.h"
#include "cpu/os_cores.h"
#include "cpu/pool.h"
#include "model/schedule.h"
#include "util/clock.h"

enum { DEFAULT_REPS = 15, MAX_REPS = 501, PROMPT = 39, WARM_MS = 200 };

struct bench {
    const struct sur_backend *backend;
    void *state;
    const struct sur_checkpoint *checkpoint;
    struct sur_model_options options;
    struct probe probe; /* without data where the backend has a probe */
    int reps;
    json_t *json;
};

/* One phase: run() is timed. */
struct phase {
    const char *name;
    uint64_t n_bytes; /* read once per run; 0: not bound by memory */
    double flops;     /* operations of products per run; 0: not bound by arithmetic */
    void *session;
    int n; /* columns or tokens */
    int64_t start;
    float *data; /* mel or rows */
    int (*run)(struct bench *, struct phase *);
    int (*undo)(struct bench *, struct phase *); /* not timed */
};

static int run_step(struct bench *b, struct phase *p)
{
    int32_t tokens[PROMPT];
    struct sur_step_out out[SUR_STEP_MAX];
    for (int i = 0; i < p->n; i++) tokens[i] = 100 + i;
    struct sur_step_job job = {.session = p->session, .n = p->n, .tokens = tokens, .out = out};
    job.n_out = p->n <= SUR_STEP_MAX ? p->n : 0;
    return b->backend->step(&job, 1);
}

static int undo_step(struct bench *b, struct phase *p)
{
    return b->backend->rewind(p->session, p->start);
}

static int undo_prefill(struct bench *b, struct phase *p)
{
    int r = b->backend->reset(p->session);
    return r ? r : b->backend->rows(p->session, 1, 0, p->n, p->data);
}

static int run_encode(struct bench *b, struct phase *p)
{
    struct sur_encode_job job = {p->session, p->n, p->data};
    return b->backend->encode(&job, 1);
}

static int undo_encode(struct bench *b, struct phase *p)
{
    return b->backend->reset(p->session);
}

static float *random_floats(size_t n)
{
    float *f = malloc(n * sizeof *f);
    uint32_t x = 1;
    for (size_t i = 0; f && i < n; i++) {
        x = x * 1664525u + 1013904223u;
        f[i] = (float)(int32_t)x * 0x1p-31f;
    }
    return f;
}

static void report(struct bench *b, const struct phase *p, double *ms, double *read, double *fma, int n)
{
    double t = count_quantile(ms, n, 0.5), low = count_quantile(ms, n, 0.05), high = count_quantile(ms, n, 0.95),
           bw = count_quantile(read, n, 0.5), f = count_quantile(fma, n, 0.5);
    double gbs = (double)p->n_bytes / t * 1e-6, gflops = p->flops / t * 1e-6;
    printf("%-18s %9.3f %9.3f %9.3f  ", p->name, t, low, high);
    if (p->n_bytes)
        printf("%8.1f MB %7.1f GB/s %5.1f%% of %.1f\n", (double)p->n_bytes * 1e-6, gbs, gbs / (bw * 1e-9) * 100,
               bw * 1e-9);
    else if (f > 0)
        printf("%8.2f GF %7.1f GF/s %5.1f%% of %.1f\n", p->flops * 1e-9, gflops, gflops / (f * 1e-9) * 100, f * 1e-9);
    else
        printf("%8.2f GF %7.1f GF/s\n", p->flops * 1e-9, gflops);
    fflush(stdout);
    json_array_append_new(json_object_get(b->json, "phases"),
                          json_pack("{s:s,s:f,s:f,s:f,s:I,s:f,s:f,s:f,s:f,s:f,s:i}", "name", p->name, "ms", t, "ms_p5",
                                    low, "ms_p95", high, "bytes", (json_int_t)p->n_bytes, "flops", p->flops,
                                    "read_probe_GBps", bw * 1e-9, "fma_probe_GFps", f * 1e-9, "share_of_read",
                                    p->n_bytes ? gbs / (bw * 1e-9) : 0.0, "share_of_fma",
                                    f > 0 ? gflops / (f * 1e-9) : 0.0, "reps", n));
}

static void probe(struct bench *b, const struct phase *p, double *read, double *fma)
{
    *read = *fma = 0;
    if (!p->n_bytes && !b->backend->read_bandwidth)
        *fma = probe_fma(&b->probe);
    else if (p->n_bytes)
        *read = b->backend->read_bandwidth ? b->backend->read_bandwidth(b->state) : probe_read(&b->probe);
}

/* p->run, in ms, from where the phase starts. */
static int once(struct bench *b, struct phase *p, double *ms)
{
    int r = p->undo(b, p);
    int64_t t = sur_clock_ns();
    if (!r) r = p->run(b, p);
    *ms = (double)(sur_clock_ns() - t) * 1e-6;
    return r;
}

static int measure(struct bench *b, struct phase *p, int max_tokens)
{
    static double ms[MAX_REPS], read[MAX_REPS], fma[MAX_REPS];
    struct sur_backend_session_options o = {
        .delay = 6, .n_prompt = PROMPT, .max_tokens = max_tokens, .start = p->start};
    bool brief = !p->n_bytes && !b->backend->read_bandwidth && b->reps > 5; /* seconds each on a processor */
    int reps = brief ? 5 : b->reps, r = b->backend->session_create(&p->session, b->state, &o);
    if (!r && p->run == run_step) r = b->backend->rows(p->session, 1, p->start, p->n, p->data);
    if (!r) r = p->run(b, p); /* warm */
    const bool gpu = b->backend->read_bandwidth;
    for (int i = 0; !r && i < reps; i++) {
        if (i && gpu)
            read[i] = read[0], fma[i] = fma[0];
        else
            probe(b, p, &read[i], &fma[i]);
        for (double spent = 0, one = 0; !r && gpu && i == 0 && spent < WARM_MS; spent += one) r = once(b, p, &one);
        if (!r) r = once(b, p, &ms[i]);
    }
    if (!r) report(b, p, ms, read, fma, reps);
    b->backend->session_destroy(p->session);
    if (r) fprintf(stderr, "surtitle-bench: %s: %s\n", p->name, sur_error_text());
    return r;
}

/* Steps of several columns, which no session takes today, take long on a CPU: there they run only if --phase names
 * them. */
static bool is_wanted(const struct bench *b, const struct phase *p, const char *only)
{
    if (only && !strstr(p->name, only)) return false;
    return !strstr(p->name, " x") || b->backend->read_bandwidth || (only && strchr(only, 'x'));
}

static int all_phases(struct bench *b, const char *only)
{
    const struct sur_params *p = &b->checkpoint->params;
    const struct sur_weights *w = &b->checkpoint->weights;
    const int encoder_layers = p->encoder.n_layers, decoder_layers = p->decoder.n_layers;
    uint64_t decoder = count_tower(w->decoder, decoder_layers, count_bytes), head = count_bytes(&w->embedding);
    uint64_t encoder =
        count_tower(w->encoder, encoder_layers, count_bytes) + count_bytes(&w->conv0) + count_bytes(&w->conv1);
    uint64_t at_1000 = decoder + head + count_kv_bytes(&p->decoder, 1000, b->options.kv);
    uint64_t adapter = count_bytes(&w->adapter0) + count_bytes(&w->adapter2);
    size_t mel = (size_t)SUR_WHOLE_TOKENS * SUR_TOKEN_FRAMES * (size_t)p->n_mels,
           rows = (size_t)PROMPT * (size_t)p->decoder.dim;
    float *data = random_floats(mel > rows ? mel : rows);
    int r = data ? 0 : -1, far = p->encoder.window / SUR_TOKEN_ROWS + 1;
    /* a weight used on a column makes two operations; the stem's conv1 runs at the encoder's rate, conv0 at twice that,
     * the adapter once per token */
    double column_flops =
        2 * (double)(count_tower(w->encoder, encoder_layers, count_weights) + count_weights(&w->conv1));
    double token_flops = SUR_TOKEN_ROWS * (column_flops + 4 * (double)count_weights(&w->conv0)) +
                         2 * (double)(count_weights(&w->adapter0) + count_weights(&w->adapter2));
    double position_flops = 2 * (double)count_tower(w->decoder, decoder_layers, count_weights);
    struct phase phases[] = {
        {"step@100", decoder + head + count_kv_bytes(&p->decoder, 100, b->options.kv), 0, NULL, 1, 100, data, run_step,
         undo_step},
        {"step@1000", at_1000, 0, NULL, 1, 1000, data, run_step, undo_step},
        {"step@8000", decoder + head + count_kv_bytes(&p->decoder, 8000, b->options.kv), 0, NULL, 1, 8000, data,
         run_step, undo_step},
        {"step@1000 x2", at_1000, 0, NULL, 2, 1000, data, run_step, undo_step},
        {"step@1000 x4", at_1000, 0, NULL, 4, 1000, data, run_step, undo_step},
        {"step@1000 x8", at_1000, 0, NULL, 8, 1000, data, run_step, undo_step},
        {"encode 1 token", encoder + adapter + count_kv_bytes(&p->encoder, p->encoder.window, b->options.kv), 0, NULL,
         1, far, data, run_encode, undo_encode},
        {"prefill 38", 0, position_flops * (PROMPT - 1), NULL, PROMPT - 1, 0, data, run_step, undo_prefill},
        {"encode 64 tokens", 0, 64 * token_flops, NULL, 64, far, data, run_encode, undo_encode},
        {"encode 256 tokens", 0, SUR_WHOLE_TOKENS * token_flops, NULL, SUR_WHOLE_TOKENS, far, data, run_encode,
         undo_encode},
    };
    printf("%-18s %9s %9s %9s  %11s %12s %s\n", "phase", "ms", "5%", "95%", "work", "rate", "share of the probe");
    const size_t n_phases = sizeof phases / sizeof *phases;
    bool exact = false; /* a phase has exactly that name: run it alone */
    for (size_t i = 0; only && i < n_phases; i++) exact |= !strcmp(phases[i].name, only);
    for (size_t i = 0; !r && i < n_phases; i++)
        if (exact ? !strcmp(phases[i].name, only) : is_wanted(b, &phases[i], only))
            r = measure(b, &phases[i], phases[i].run == run_encode ? phases[i].n : 1);
    free(data);
    return r;
}

static const char usage[] =
    "usage: surtitle-bench --this-machine [--threads N] [--cpu auto|NAME] [--kv fp16|fp32]\n"
    "       surtitle-bench --model PATH | --synthetic full|tiny [--weights bf16|q8_0|q6_k|q5_k_m|q4_k_m]\n"
    "                      [--backend auto|cuda|cpu] [--cpu auto|NAME]\n"
    "                      [--kv fp16|fp32] [--gemm own|lt|blas] [--window-attention own|gemm] [--vram-limit MIB]\n"
    "                      [--threads N] [--reps N] [--phase TEXT] [--json FILE]\n"
    "\n"
    "  --this-machine  says in words which types of weights the published model runs live with here, and how much\n"
    "                  time is to spare; takes about ten seconds and 1.5 GB of memory, and needs no model\n"
    "  --model         measures each phase of that model\n"
    "  --synthetic     the same with random weights, of the published model's sizes (full) or few (tiny)\n"
    "  --threads N     2; with --this-machine as many as surtitle would take: its cores, at most 16\n";

static int choose(const char *text, const char *const *names)
{
    for (int i = 0; names[i]; i++)
        if (!strcmp(text, names[i])) return i;
    fputs(usage, stderr);
    exit(2);
}

struct arguments {
    const char *dir, *synthetic, *weights, *only, *json;
    int reps;
    bool this_machine, help;
    struct sur_model_options options;
};

/* This function is long: one case per option. */
static void parse(struct arguments *a, int argc, char **argv)
{
    static const struct option options[] = {
        {"model", 1, 0, 'm'},      {"synthetic", 1, 0, 's'},    {"weights", 1, 0, 'W'}, {"backend", 1, 0, 'b'},
        {"cpu", 1, 0, 'c'},        {"kv", 1, 0, 'k'},           {"gemm", 1, 0, 'g'},    {"window-attention", 1, 0, 'w'},
        {"vram-limit", 1, 0, 'v'}, {"threads", 1, 0, 't'},      {"reps", 1, 0, 'r'},    {"phase", 1, 0, 'p'},
        {"json", 1, 0, 'j'},       {"this-machine", 0, 0, 'T'}, {"help", 0, 0, 'h'},    {0}};
    const char *const backends[] = {sur_backend_name(SUR_BACKEND_AUTO), sur_backend_name(SUR_BACKEND_CUDA),
                                    sur_backend_name(SUR_BACKEND_CPU), NULL};
    static const char *const kvs[] = {"fp16", "fp32", NULL};
    static const char *const gemms[] = {"own", "lt", "blas", NULL}, *const attentions[] = {"own", "gemm", NULL};
    bool bad = false;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) != -1;) switch (c) {
        case 'm':
            a->dir = optarg;
            break;
        case 's':
            a->synthetic = optarg;
            break;
        case 'W':
            a->weights = optarg;
            break;
        case 'b':
            a->options.backend = (enum sur_backend_kind)choose(optarg, backends);
            break;
        case 'c':
            a->options.cpu = strcmp(optarg, "auto") ? optarg : NULL;
            break;
        case 'k':
            a->options.kv = (enum sur_kv_type)choose(optarg, kvs);
            break;
        case 'g':
            a->options.gemm = (enum sur_gemm)choose(optarg, gemms);
            break;
        case 'w':
            a->options.window_attention = (enum sur_window_attention)choose(optarg, attentions);
            break;
        case 'v':
            a->options.vram_limit_mib = atoi(optarg);
            bad = bad || a->options.vram_limit_mib < 1;
            break;
        case 't':
            a->options.threads = atoi(optarg);
            bad = bad || a->options.threads < 1;
            break;
        case 'r':
            a->reps = atoi(optarg);
            break;
        case 'p':
            a->only = optarg;
            break;
        case 'j':
            a->json = optarg;
            break;
        case 'T':
            a->this_machine = true;
            break;
        case 'h':
            a->help = true;
            return;
        default:
            bad = true;
        }
    bad = bad || (a->weights && !a->synthetic) || (a->dir != NULL) + (a->synthetic != NULL) + a->this_machine != 1;
    const struct sur_model_options *o = &a->options;
    bad = bad || (a->this_machine && (o->backend || a->only || a->json || o->gemm || o->window_attention ||
                                      o->vram_limit_mib || a->reps != DEFAULT_REPS));
    if (a->options.threads < 0) a->options.threads = a->this_machine ? sur_cores_default() : 2;
    if (bad || optind != argc || a->options.threads < 1 || a->reps < 1 || a->reps > MAX_REPS) {
        fputs(usage, stderr);
        exit(2);
    }
}

/* Prints the lines above the phases. */
static void tell_backend(struct bench *b)
{
    struct sur_model_stats s = {0};
    b->backend->stats(b->state, &s);
    if (b->backend->read_bandwidth)
        printf("%s backend, load %.2f s, %.1f MB of its memory, %d of %d layers stay, read %.1f GB/s\n",
               b->backend->name, (double)s.load_ns * 1e-9, (double)s.device_bytes * 1e-6, s.n_resident, s.n_layers,
               b->backend->read_bandwidth(b->state) * 1e-9);
    else
        printf("%s backend, %d threads, load %.2f s, read %.1f GB/s, multiply-add %.1f GF/s\n", b->backend->name,
               b->options.threads, (double)s.load_ns * 1e-9, probe_read(&b->probe) * 1e-9, probe_fma(&b->probe) * 1e-9);
    json_object_set_new(b->json, "backend", json_string(b->backend->name));
    json_object_set_new(b->json, "load_s", json_real((double)s.load_ns * 1e-9));
    json_object_set_new(b->json, "memory_bytes", json_integer(s.device_bytes));
    json_object_set_new(b->json, "layers", json_integer(s.n_layers));
    json_object_set_new(b->json, "resident_layers", json_integer(s.n_resident));
}

int main(int argc, char **argv)
{
    struct arguments a = {.reps = DEFAULT_REPS, .options = {.threads = -1, .gpu = -1}};
    parse(&a, argc, argv);
    if (a.help) return fputs(usage, stdout) < 0;
    if (a.this_machine) return machine_report(&a.options);
    struct bench b = {.reps = a.reps, .options = a.options};
    b.json = json_pack("{s:s,s:[]}", "version", SUR_VERSION, "phases");
    struct sur_pool *pool = NULL;
    struct sur_checkpoint made = {0}, *opened = NULL;
    int r = 0;
    if (a.synthetic) r = sur_pool_create(&pool, a.options.threads);
    if (!r && a.synthetic) r = synthetic_create(&made, a.synthetic, a.weights ? a.weights : "bf16", pool);
    if (!r && a.dir) r = sur_checkpoint_open(&opened, a.dir);
    b.checkpoint = opened ? opened : &made;
    if (!r) r = sur_backend_open(&b.backend, &b.state, b.checkpoint, &b.options);
    bool own_probe = !r && b.backend->read_bandwidth;
    if (own_probe) sur_pool_destroy(&pool);
    if (!r && !own_probe && !pool) r = sur_pool_create(&pool, a.options.threads);
    if (!r && !own_probe) r = probe_init(&b.probe, pool, (size_t)2 << 30);
    if (r) fprintf(stderr, "surtitle-bench: %s\n", *sur_error_text() ? sur_error_text() : "not enough memory");
    if (!r) tell_backend(&b);
    if (!r) r = all_phases(&b, a.only);
    if (!r && a.json && json_dump_file(b.json, a.json, JSON_INDENT(2)))
        r = fprintf(stderr, "surtitle-bench: cannot write %s\n", a.json);
    if (b.state) b.backend->close(b.state);
    sur_checkpoint_close(&opened);
    synthetic_destroy(&made);
    probe_finish(&b.probe);
    sur_pool_destroy(&pool);
    json_decref(b.json);
    return r ? 1 : 0;
}
