#include "bench/probe.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "cpu/pool.h"
#include "util/clock.h"

/* Compiled for the processor at hand where the compiler can do that; GCC's vectors of 64 bytes then become whatever it
 * has. */
typedef uint32_t v16u __attribute__((vector_size(64)));
typedef float v16f __attribute__((vector_size(64)));

#if defined(__x86_64__) && !defined(__clang__)
#define CLONES __attribute__((target_clones("avx512f", "arch=haswell", "default")))
#else
#define CLONES
#endif

static _Atomic uint64_t keep; /* results go here, so that no loop is left out */

static void publish(const v16u *v)
{
    uint64_t sum = 0;
    for (int i = 0; i < 16; i++) sum += (*v)[i];
    atomic_fetch_add_explicit(&keep, sum, memory_order_relaxed);
}

CLONES static void read_one(const v16u *p, size_t n)
{
    v16u a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i + 4 <= n; i += 4) a ^= p[i], b ^= p[i + 1], c ^= p[i + 2], d ^= p[i + 3];
    a ^= b ^ c ^ d;
    publish(&a);
}

CLONES static void read_four(const v16u *p, size_t n)
{
    v16u a = {0}, b = {0}, c = {0}, d = {0};
    size_t q = n / 4;
    for (size_t i = 0; i < q; i++) a ^= p[i], b ^= p[q + i], c ^= p[2 * q + i], d ^= p[3 * q + i];
    a ^= b ^ c ^ d;
    publish(&a);
}

/* Asked for 16 KiB ahead, into the second-level cache, as the products do. */
CLONES static void read_ahead(const v16u *p, size_t n)
{
    v16u a = {0}, b = {0}, c = {0}, d = {0};
    for (size_t i = 0; i + 4 <= n; i += 4) {
        for (int j = 0; j < 4; j++) __builtin_prefetch((const char *)(p + i + j) + 16384, 0, 2);
        a ^= p[i], b ^= p[i + 1], c ^= p[i + 2], d ^= p[i + 3];
    }
    a ^= b ^ c ^ d;
    publish(&a);
}

static void (*const loops[])(const v16u *, size_t) = {read_one, read_four, read_ahead};

struct job {
    struct probe *probe;
    int loop;
};

static void read_part(void *arg, int part, int n_parts)
{
    const struct job *j = arg;
    size_t n = j->probe->n_bytes / 64 / (size_t)n_parts;
    loops[j->loop]((const v16u *)(const void *)j->probe->data + (size_t)part * n, n);
}

double probe_read(struct probe *probe)
{
    double best = 0;
    for (int i = 0; i < (int)(sizeof loops / sizeof *loops); i++) {
        struct job j = {probe, i};
        int64_t t = sur_clock_ns();
        sur_pool_run(probe->pool, read_part, &j);
        double rate = (double)probe->n_bytes / ((double)(sur_clock_ns() - t) * 1e-9);
        if (rate > best) best = rate;
    }
    return best;
}

enum { FMA_ROUNDS = 1 << 22, FMA_CHAINS = 12 };

/* Twelve chains of 16 lanes hide the latency of every processor so far. */
CLONES static void fma_loop(void)
{
    v16f a[FMA_CHAINS], x = {0}, y = {0};
    for (int i = 0; i < 16; i++) x[i] = 0.999f, y[i] = 1e-3f;
    for (int c = 0; c < FMA_CHAINS; c++) a[c] = x + (float)c;
    for (int i = 0; i < FMA_ROUNDS; i++)
        for (int c = 0; c < FMA_CHAINS; c++) a[c] = a[c] * x + y;
    for (int c = 1; c < FMA_CHAINS; c++) a[0] += a[c];
    v16u bits = (v16u)a[0];
    publish(&bits);
}

static void fma_part(void *arg, int part, int n_parts)
{
    (void)arg;
    (void)part;
    (void)n_parts;
    fma_loop();
}

double probe_fma(struct probe *probe)
{
    int64_t t = sur_clock_ns();
    sur_pool_run(probe->pool, fma_part, NULL);
    double flops = 2.0 * 16 * FMA_CHAINS * FMA_ROUNDS * sur_pool_size(probe->pool);
    return flops / ((double)(sur_clock_ns() - t) * 1e-9);
}

static void fill_part(void *arg, int part, int n_parts)
{
    struct probe *probe = arg;
    size_t n = probe->n_bytes / 4 / (size_t)n_parts, end = (size_t)(part + 1) * n;
    uint32_t *p = (uint32_t *)(void *)probe->data, x = 2463534242u + (uint32_t)part;
    for (size_t i = (size_t)part * n; i < end; i++) {
        x ^= x << 13;
        x ^= x >> 17;
        p[i] = x ^= x << 5;
    }
}

int probe_init(struct probe *probe, struct sur_pool *pool, size_t n_bytes)
{
    probe->pool = pool;
    probe->n_bytes = n_bytes;
    probe->data = aligned_alloc(4096, probe->n_bytes);
    if (!probe->data) return -1;
    sur_pool_run(pool, fill_part, probe);
    return 0;
}

void probe_finish(struct probe *probe)
{
    free(probe->data);
}
