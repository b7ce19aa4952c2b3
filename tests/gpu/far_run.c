/* Time and memory stay constant far into a session: runs tokens on the CUDA backend from a position far out.
 *
 * usage: far_run MODEL [START [TOKENS]]     (131000, 1500)
 *
 * Prints the time per token in the first and in the last tenth, and the free device memory before and after. Exit
 * status 1: the time grew by more than 5%, or memory was lost; 77: the backend cannot be used here. */
#include <cuda.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/backend.h"
#include "model/schedule.h"
#include "util/clock.h"

enum { MAX_TOKENS = 100000, N_MEL_TOKENS = 97 };

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *ms, int n)
{
    qsort(ms, (size_t)n, sizeof *ms, by_value);
    return ms[n / 2];
}

static size_t free_bytes(void)
{
    size_t n = 0, total;
    CUresult (*get)(size_t *, size_t *);
    void *f = dlsym(dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD), "cuMemGetInfo_v2");
    memcpy(&get, &f, sizeof get);
    return get(&n, &total) == CUDA_SUCCESS ? n : 0;
}

static float *noise(size_t n)
{
    float *mel = malloc(n * sizeof *mel);
    uint32_t x = 5;
    for (size_t i = 0; mel && i < n; i++) {
        x = x * 1664525u + 1013904223u;
        mel[i] = (float)(int32_t)x * 0x1p-31f;
    }
    return mel;
}

/* ms[i]: token i, encoded and stepped. */
static int run(const struct sur_backend *b, void *session, const float *mel, size_t token_mels, int n, double *ms)
{
    static const int32_t first = 1;
    struct sur_step_out out;
    int r = SUR_OK;
    for (int i = 0; !r && i < n; i++) {
        int64_t t = sur_clock_ns();
        struct sur_encode_job encode = {session, 1, mel + (size_t)(i % N_MEL_TOKENS) * token_mels};
        struct sur_step_job step = {session, 1, i ? NULL : &first, 1, &out};
        r = b->encode(&encode, 1);
        if (!r) r = b->step(&step, 1);
        ms[i] = (double)(sur_clock_ns() - t) * 1e-6;
    }
    return r;
}

int main(int argc, char **argv)
{
    static double ms[MAX_TOKENS];
    const struct sur_backend *b;
    struct sur_checkpoint *c = NULL;
    struct sur_model_options o = {.threads = 2, .gpu = -1};
    struct sur_backend_session_options so = {.delay = 6, .n_prompt = 39, .max_tokens = 1, .start = 131000};
    void *state = NULL, *session = NULL;
    if (argc > 2) so.start = atoll(argv[2]);
    int n = argc > 3 ? atoi(argv[3]) : 1500;
    if (argc < 2 || n < 20 || n > MAX_TOKENS || so.start < 0) return fprintf(stderr, "usage: see far_run.c\n"), 2;
    if (sur_backend_choose(&b, SUR_BACKEND_CUDA)) return printf("%s\n", sur_error_text()), 77;
    int r = sur_checkpoint_open(&c, argv[1]);
    if (!r) r = b->open(&state, c, &o);
    if (!r) r = b->session_create(&session, state, &so);
    size_t token_mels = r ? 0 : (size_t)SUR_TOKEN_FRAMES * (size_t)c->params.n_mels;
    float *mel = noise(N_MEL_TOKENS * token_mels);
    if (!r && mel) r = run(b, session, mel, token_mels, 20, ms); /* warm */
    size_t before = r ? 0 : free_bytes();
    if (!r && mel) r = run(b, session, mel, token_mels, n, ms);
    if (r || !mel) return fprintf(stderr, "%s\n", sur_error_text()), 1;
    size_t after = free_bytes();
    double first = median(ms, n / 10), last = median(ms + n - n / 10, n / 10);
    printf(
        "positions %lld to %lld: %.3f ms per token in the first tenth, %.3f ms in the last; free memory %zu MiB, then "
        "%zu MiB\n",
        (long long)so.start + 20, (long long)so.start + 20 + n, first, last, before >> 20, after >> 20);
    b->session_destroy(session);
    b->close(state);
    sur_checkpoint_close(&c);
    free(mel);
    return !before || after < before || last > 1.05 * first;
}
