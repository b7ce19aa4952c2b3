/* How fast the device reads its memory: what the decoder's speed is compared with. */
#include <stdlib.h>

#include "gpu/driver.h"
#include "util/clock.h"
#include "util/error.h"

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Fills the memory with random bytes: copies one block from the host, then doubles it on the device. */
static int fill_random(CUdeviceptr p, size_t n_bytes)
{
    enum { BLOCK = 1 << 20 };
    uint32_t *block = malloc(BLOCK), x = 1;
    if (!block) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    for (size_t i = 0; i < BLOCK / 4; i++) block[i] = x = x * 1664525u + 1013904223u;
    int r = CHECK(cuMemcpyHtoD(p, block, BLOCK));
    for (size_t have = BLOCK; !r && have < n_bytes; have *= 2)
        r = CHECK(cuMemcpyDtoD(p + have, p, have * 2 <= n_bytes ? have : n_bytes - have));
    free(block);
    return r;
}

/* *best: bytes per second of the fastest grid, each grid by the median of its launches. */
static int time_probe(const struct gpu *g, CUdeviceptr data, size_t n_bytes, CUevent from, CUevent to, double *best)
{
    enum { REPS = 7, WARM_MS = 100 };
    struct sur_gpu_probe probe = {data, data, n_bytes};
    int r = SUR_OK;
    /* An idle GPU starts at lower clocks. */
    for (int64_t start = sur_clock_ns(); !r && sur_clock_ns() - start < WARM_MS * 1000000LL;) {
        struct sur_gpu_launch l = {{8 * (unsigned)g->multiprocessors, 1, 1}, 512, 0};
        r = gpu_launch(g, NULL, GPU_PROBE, &l, &probe, false);
        if (!r) r = CHECK(cuStreamSynchronize(NULL));
    }
    for (unsigned blocks = 2; !r && blocks <= 8; blocks *= 2) { /* per multiprocessor */
        struct sur_gpu_launch l = {{blocks * (unsigned)g->multiprocessors, 1, 1}, 512, 0};
        float ms[REPS];
        for (int i = 0; !r && i < REPS; i++) {
            r = CHECK(cuEventRecord(from, NULL));
            if (!r) r = gpu_launch(g, NULL, GPU_PROBE, &l, &probe, false);
            if (!r) r = CHECK(cuEventRecord(to, NULL));
            if (!r) r = CHECK(cuEventSynchronize(to));
            if (!r) r = CHECK(cuEventElapsedTime(&ms[i], from, to));
        }
        if (r) break; /* not all of ms is set */
        qsort(ms, REPS, sizeof *ms, by_value);
        double rate = (double)n_bytes / (ms[REPS / 2] * 1e-3);
        if (rate > *best) *best = rate;
    }
    return r;
}

int gpu_read_bandwidth(struct gpu *g, double *bytes_per_second)
{
    size_t free_bytes = 0, n_bytes = (size_t)8 << 30;
    CUdeviceptr data = 0;
    CUevent from = NULL, to = NULL;
    *bytes_per_second = 0;
    int r = gpu_free_memory(&free_bytes);
    while (n_bytes > free_bytes / 2 && n_bytes > 1 << 26) n_bytes /= 2;
    if (!r) r = gpu_allocate(g, &data, n_bytes, false);
    if (!r) r = fill_random(data, n_bytes);
    if (!r) r = CHECK(cuEventCreate(&from, CU_EVENT_DEFAULT));
    if (!r) r = CHECK(cuEventCreate(&to, CU_EVENT_DEFAULT));
    if (!r) r = time_probe(g, data, n_bytes, from, to, bytes_per_second);
    if (from) cuEventDestroy(from);
    if (to) cuEventDestroy(to);
    gpu_free(g, &data, n_bytes);
    return r;
}
