/* Fast ops against their plain references: model shapes, odd shapes, window wraps, nasty data; canaries round outputs;
 * and the property everything rests on: the bits of one result do not depend on how many are computed beside it.
 *
 * Bounds. A sum of n products in fp32, in any order, is off by at most n * u * sum |a b| (u = 2^-24); 16 lanes of n /
 * 16 terms and a tree of 4 make that (n / 16 + 5) * u. Each bound below is that, with sums of magnitudes from the data.
 */
#include <dirent.h>
#include <float.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpu/gemm.h"
#include "cpu/isa.h"
#include "cpu/pool.h"
#include "ref_ops.h"
#include "util/half.h"

static const double U = 0x1p-24;
enum { CANARY = 64 };
static const struct sur_cpu_ops *tables[3];
static int n_tables;

static uint64_t seed = 1;
static double uniform(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (double)(seed >> 11) * 0x1p-53;
}
static float normal(void)
{
    return (float)(sqrt(-2 * log(uniform() + 1e-300)) * cos(6.283185307179586 * uniform()));
}
static uint16_t bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return (uint16_t)(u >> 16);
}

/* Poisoned memory with canaries at both ends. */
static float *guarded(size_t n)
{
    float *p = malloc((n + 2 * CANARY) * sizeof *p);
    for (size_t i = 0; i < n + 2 * CANARY; i++) p[i] = i < CANARY || i >= n + CANARY ? 12345.0f : NAN;
    return p + CANARY;
}
static void release(float *p, size_t n)
{
    for (size_t i = 0; i < CANARY; i++) assert_true(p[i - CANARY] == 12345.0f && p[n + i] == 12345.0f);
    free(p - CANARY);
}

/* ---- products ---- */

static void matmul_case(const struct sur_cpu_ops *ops, int rows, int k, int n, int kind, bool bias, bool accumulate)
{
    size_t pad = uniform() < 0.5 ? 0 : 3; /* strides larger than k, and odd addresses */
    size_t w_stride = (size_t)k + pad, x_stride = (size_t)k + pad, y_stride = (size_t)rows + pad;
    uint16_t *w = malloc(w_stride * (size_t)rows * sizeof *w);
    float *x = malloc(x_stride * (size_t)n * sizeof *x), *b = malloc((size_t)rows * sizeof *b);
    size_t ny = y_stride * (size_t)(n - 1) + (size_t)rows;
    float *y = guarded(ny), *ref = malloc(ny * sizeof *ref);
    for (size_t i = 0; i < w_stride * (size_t)rows; i++) w[i] = bf16(normal());
    for (size_t i = 0; i < x_stride * (size_t)n; i++)
        x[i] = kind == 0   ? normal()
               : kind == 1 ? (i % 97 == 0 ? 1e4f : normal())
               : kind == 2 ? 1e-38f
                           : (i & 1 ? 1.0f : -1.0f);
    for (int i = 0; i < rows; i++) b[i] = normal();
    if (accumulate)
        for (size_t i = 0; i < ny; i++) y[i] = normal();
    memcpy(ref, y, ny * sizeof *y);
    struct sur_matmul m = {w, w_stride, k, x, x_stride, n, y, y_stride, bias ? b : NULL, accumulate};
    ops->matmul(&m, 0, rows);
    struct sur_matmul mr = m;
    mr.y = ref;
    sur_ref_matmul(&mr, 0, rows);
    for (int c = 0; c < n; c++)
        for (int r = 0; r < rows; r++) {
            double magnitude = 0;
            for (int i = 0; i < k; i++)
                magnitude += fabs((double)sur_bf16_to_f32(w[(size_t)r * w_stride + (size_t)i]) *
                                  (double)x[(size_t)c * x_stride + (size_t)i]);
            size_t at = (size_t)c * y_stride + (size_t)r;
            double bound = (k / 16 + 1 + 5) * U * magnitude + 3 * U * (fabs((double)ref[at]) + 10) + 1e-42 * k;
            if (!(fabs((double)y[at] - (double)ref[at]) <= bound))
                fail_msg("%s rows %d k %d n %d kind %d: row %d column %d is %g, not %g", ops->name, rows, k, n, kind, r,
                         c, (double)y[at], (double)ref[at]);
        }
    /* one column at a time, and rows in two halves, give the same bits */
    if (!accumulate) {
        float *alone = guarded((size_t)rows);
        for (int c = 0; c < n; c++) {
            struct sur_matmul m1 = m;
            m1.x = x + (size_t)c * x_stride;
            m1.n = 1;
            m1.y = alone;
            int half = rows / 2 / 4 * 4 + (rows > 5 ? 1 : 0);
            ops->matmul(&m1, 0, half);
            ops->matmul(&m1, half, rows);
            assert_memory_equal(alone, y + (size_t)c * y_stride, (size_t)rows * sizeof *y);
        }
        release(alone, (size_t)rows);
    }
    release(y, ny);
    free(ref);
    free(w);
    free(x);
    free(b);
}

static void test_matmul(void **state)
{
    (void)state;
    static const int shapes[][3] = {{1, 1, 1},    {4, 16, 4},   {3, 15, 2},     {5, 17, 5},
                                    {64, 384, 8}, {33, 100, 7}, {128, 3072, 1}, {40, 1280, 4},
                                    {7, 5120, 9}, {12, 96, 70}, {18, 250, 33},  {256, 256, 39}};
    for (int t = 0; t < n_tables; t++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (int kind = 0; kind < 4; kind++)
                matmul_case(tables[t], shapes[i][0], shapes[i][1], shapes[i][2], kind, kind & 1, kind == 3);
}

/* ---- elementwise ---- */

static void test_rmsnorm(void **state)
{
    (void)state;
    static const int sizes[] = {1, 15, 16, 17, 100, 192, 1280, 3072};
    for (int t = 0; t < n_tables; t++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            int n = sizes[i];
            float *x = malloc((size_t)n * sizeof *x), *w = malloc((size_t)n * sizeof *w),
                  *ref = malloc((size_t)n * sizeof *ref), *y = guarded((size_t)n);
            for (int k = 0; k < n; k++) {
                x[k] = normal() * (k % 50 == 3 ? 1000.0f : 1.0f);
                w[k] = normal();
            }
            tables[t]->rmsnorm(y, x, w, n, 1e-5f);
            sur_ref_rmsnorm(ref, x, w, n, 1e-5f);
            for (int k = 0; k < n; k++) /* half the relative error of the sum, then four roundings */
                assert_true(fabs((double)y[k] - (double)ref[k]) <=
                            ((n / 16 + 6) / 2.0 + 5) * U * fabs((double)ref[k]) + 1e-30);
            tables[t]->rmsnorm(x, x, w, n, 1e-5f); /* in place */
            assert_memory_equal(x, y, (size_t)n * sizeof *y);
            release(y, (size_t)n);
            free(x);
            free(w);
            free(ref);
        }
}

static void test_activations(void **state)
{
    (void)state;
    enum { N = 10007 };
    for (int t = 0; t < n_tables; t++) {
        float *g = guarded(N), *up = malloc(N * sizeof *up), *ref = malloc(N * sizeof *ref);
        for (int i = 0; i < N; i++) {
            g[i] = i < 16 ? (float[]){0,   -0.0f, 1e-30f, -1e-30f, 87,     -87,   -87.2f, 88,
                                      -88, 100,   -100,   1e30f,   -1e30f, 3e38f, -3e38f, 1}[i]
                          : 8 * normal();
            up[i] = normal();
        }
        memcpy(ref, g, N * sizeof *g);
        tables[t]->silu_mul(g, up, N);
        sur_ref_silu_mul(ref, up, N);
        for (int i = 0; i < N; i++) /* e^-g to 2 ulp, plus one sum, one quotient, one product; below e^-87 nothing */
            if (g[i] != ref[i] && !(fabs((double)g[i] - (double)ref[i]) <= 8 * U * fabs((double)ref[i]) + 1.5e-36))
                fail_msg("%s silu %d: %g, not %g", tables[t]->name, i, (double)g[i], (double)ref[i]);
        for (int i = 0; i < N; i++) g[i] = ref[i] = i == 0 ? -20 : 3 * normal();
        tables[t]->gelu(g, N);
        sur_ref_gelu(ref, N);
        for (int i = 0; i < N; i++) /* 1 + erf cancels for negative x: absolute 4 u |x| there */
            assert_true(fabs((double)g[i] - (double)ref[i]) <= 8 * U * fmax(fabs((double)ref[i]), 3.0));
        release(g, N);
        free(up);
        free(ref);
    }
}

static void test_half(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) { /* every fp16 but NaN survives the way there and back */
        if ((h & 0x7fff) > 0x7c00) continue;
        assert_int_equal(sur_f32_to_fp16(sur_fp16_to_f32((uint16_t)h)), h);
    }
    assert_int_equal(sur_f32_to_fp16(1e9f), 0x7bff);
    assert_int_equal(sur_f32_to_fp16(-FLT_MAX), 0xfbff);
    assert_int_equal(sur_f32_to_fp16(-INFINITY), 0xfc00);
    assert_int_equal(sur_f32_to_fp16(NAN) & 0x7fff, 0x7e00);
    assert_int_equal(sur_f32_to_fp16(65519.0f), 0x7bff);
    assert_int_equal(sur_f32_to_fp16(1.0f + 0x1p-11f), 0x3c00); /* a tie goes to even */
    assert_int_equal(sur_f32_to_fp16(1.0f + 3 * 0x1p-11f), 0x3c02);
    assert_int_equal(sur_f32_to_fp16(0x1p-25f), 0);
    assert_int_equal(sur_f32_to_fp16(0x1.8p-25f), 1);
    assert_int_equal(sur_f32_to_fp16(0x1.ff8p-15f), 0x03ff); /* the largest denormal */
    assert_int_equal(sur_f32_to_fp16(0x1.ffcp-15f), 0x0400); /* half way to the smallest normal: even */
}

/* ---- attention ---- */

static void attend_case(const struct sur_cpu_ops *ops, int head_dim, int group, int n, int window, int64_t first,
                        enum sur_kv_type type)
{
    size_t d = (size_t)head_dim, stride = (d + 15) / 16 * 16, q_stride = d * (size_t)group + 5;
    int n_blocks = (window + n + SUR_KEY_BLOCK - 1) / SUR_KEY_BLOCK;
    size_t positions = (size_t)n_blocks * SUR_KEY_BLOCK, bytes = type == SUR_KV_FP16 ? 2 : 4;
    char *k = calloc(positions * d, bytes), *v = calloc(positions * stride, bytes);
    float *q = malloc(q_stride * (size_t)n * sizeof *q), *out = guarded(q_stride * (size_t)n),
          *ref = malloc(q_stride * (size_t)n * sizeof *ref);
    float *scratch = malloc(sur_attend_scratch(n * group, (int)stride) * sizeof *scratch);
    for (size_t i = 0; i < positions * d; i++) { /* the ring is full of keys, also where these queries may not look */
        float x = normal() * 2;
        if (type == SUR_KV_FP16)
            ((uint16_t *)(void *)k)[i] = sur_f32_to_fp16(x);
        else
            ((float *)(void *)k)[i] = x;
        size_t at = i / d * stride + i % d;
        x = normal();
        if (type == SUR_KV_FP16)
            ((uint16_t *)(void *)v)[at] = sur_f32_to_fp16(x);
        else
            ((float *)(void *)v)[at] = x;
    }
    for (size_t i = 0; i < q_stride * (size_t)n; i++) q[i] = normal() * 2;
    struct sur_attend a = {k,           v, type,     n_blocks, head_dim,
                           (int)stride, q, q_stride, out,      q_stride,
                           group,       n, window,   first,    (float)(1 / sqrt(head_dim)),
                           scratch};
    ops->attend(&a);
    struct sur_attend r = a;
    r.out = ref;
    sur_ref_attend(&r);
    /* scores are sums of d products of size |q||k| ~ 4, off by d u 4 sqrt(d) scale; that and exp's 4 u are relative
     * errors of the weights; values are below 6 and weights sum to 1 */
    double bound = 2 * 6 * (head_dim * U * 40 + 8 * U + (window + 64) * U);
    for (int i = 0; i < n; i++)
        for (size_t e = 0; e < d * (size_t)group; e++) {
            size_t at = (size_t)i * q_stride + e;
            if (!(fabs((double)out[at] - (double)ref[at]) <= bound))
                fail_msg("%s head_dim %d group %d n %d window %d first %lld: query %d element %zu is %g, not %g",
                         ops->name, head_dim, group, n, window, (long long)first, i, e, (double)out[at],
                         (double)ref[at]);
        }
    float *alone = guarded(q_stride); /* one query at a time: the same bits */
    for (int i = 0; i < n; i++) {
        struct sur_attend one = a;
        one.q = q + (size_t)i * q_stride;
        one.out = alone;
        one.n_queries = 1;
        one.first = first + i;
        ops->attend(&one);
        assert_memory_equal(alone, out + (size_t)i * q_stride, d * (size_t)group * sizeof *out);
    }
    release(alone, q_stride);
    release(out, q_stride * (size_t)n);
    free(k);
    free(v);
    free(q);
    free(ref);
    free(scratch);
}

static void test_attend(void **state)
{
    (void)state;
    static const int shapes[][4] = {{64, 1, 4, 750}, {128, 4, 1, 1000}, {32, 4, 39, 64},  {20, 2, 3, 48},
                                    {36, 3, 8, 1},   {2, 1, 5, 7},      {40, 1, 256, 150}};
    static const int64_t firsts[] = {0, 1, 63, 64, 65, 700, 131072 + 5, ((int64_t)1 << 40) + 3};
    for (int t = 0; t < n_tables; t++)
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            for (size_t f = 0; f < sizeof firsts / sizeof *firsts; f++)
                attend_case(tables[t], shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], firsts[f],
                            (i + f) % 2 ? SUR_KV_FP16 : SUR_KV_FP32);
}

/* ---- pool ---- */

static void count_part(void *arg, int part, int n_parts)
{
    int begin, end;
    sur_pool_share(1003, 4, part, n_parts, &begin, &end);
    for (int i = begin; i < end; i++) ((int *)arg)[i]++;
}

static void test_pool(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 5; threads++) {
        struct sur_pool *pool;
        int counts[1003] = {0};
        assert_int_equal(sur_pool_create(&pool, threads), 0);
        for (int i = 0; i < 2000; i++) sur_pool_run(pool, count_part, counts);
        for (int i = 0; i < 1003; i++) assert_int_equal(counts[i], 2000);
        sur_pool_destroy(&pool);
    }
}

struct user {
    struct sur_pool *pool;
    int counts[1003], wrong_parts, size;
};

static void count_own_part(void *arg, int part, int n_parts)
{
    struct user *u = arg;
    if (n_parts != u->size || part >= u->size) u->wrong_parts++;
    count_part(u->counts, part, n_parts);
}

static void *use_pool(void *arg)
{
    struct user *u = arg;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(sur_pool_create(&u->pool, u->size), 0);
        for (int k = 0; k < 3; k++) sur_pool_run(u->pool, count_own_part, u);
        sur_pool_destroy(&u->pool);
    }
    return NULL;
}

static int count_threads(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* A thread that was joined may be listed for a moment more. */
static void expect_threads(int n)
{
    for (int i = 0; i < 3000 && count_threads() != n; i++) usleep(10000);
    assert_int_equal(count_threads(), n);
}

/* Pools of different sizes have the same workers, as many as the largest needs; and none is left at the end. */
static void test_pools_share_workers(void **state)
{
    (void)state;
    struct sur_pool *pools[4];
    static const int sizes[4] = {3, 5, 1, 4}, expected[4] = {2, 4, 4, 4};
    const int before = count_threads();
    for (int i = 0; i < 4; i++) {
        assert_int_equal(sur_pool_create(&pools[i], sizes[i]), 0);
        expect_threads(before + expected[i]);
        assert_int_equal(sur_pool_size(pools[i]), sizes[i]);
    }
    for (int i = 0; i < 4; i++) {
        int counts[1003] = {0};
        for (int k = 0; k < 100; k++) sur_pool_run(pools[i], count_part, counts);
        for (int k = 0; k < 1003; k++) assert_int_equal(counts[k], 100);
        sur_pool_destroy(&pools[i]);
        assert_null(pools[i]);
    }
    expect_threads(before);
    assert_int_equal(sur_pool_create(&pools[0], 0), SUR_ERR_ARGUMENT);
    assert_int_equal(sur_pool_create(&pools[0], SUR_POOL_MAX + 1), SUR_ERR_ARGUMENT);
    assert_null(pools[0]);
}

static void test_pools_at_once(void **state)
{
    (void)state;
    static struct user users[3] = {{.size = 2}, {.size = 4}, {.size = 3}};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, use_pool, &users[i]), 0);
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        for (int k = 0; k < 1003; k++) assert_int_equal(users[i].counts[k], 3000);
        assert_int_equal(users[i].wrong_parts, 0);
    }
}

static void read_mask(void *arg, int part, int n_parts)
{
    pthread_sigmask(SIG_BLOCK, NULL, (sigset_t *)arg + part);
}

/* A signal for the program must not reach a worker, and a worker's own fault must reach the program's handler. */
static void test_worker_signals(void **state)
{
    (void)state;
    static const int kept_away[] = {SIGINT, SIGTERM, SIGHUP, SIGCHLD, SIGALRM, SIGUSR1, SIGUSR2, SIGWINCH};
    static const int own[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL};
    struct sur_pool *pool;
    sigset_t masks[3];
    assert_int_equal(sur_pool_create(&pool, 3), 0);
    sur_pool_run(pool, read_mask, masks);
    for (int part = 1; part < 3; part++) {
        for (int i = 0; i < 8; i++) assert_int_equal(sigismember(&masks[part], kept_away[i]), 1);
        for (int i = 0; i < 4; i++) assert_int_equal(sigismember(&masks[part], own[i]), 0);
    }
    assert_int_equal(sigismember(&masks[0], SIGINT), 0); /* the caller's is as it was */
    sur_pool_destroy(&pool);
}

static void *open_blas(void *arg)
{
    *(int *)arg = sur_blas_open();
    return NULL;
}

/* Models may be opened by several threads at once: under ThreadSanitizer this shows a race. */
static void test_blas_at_once(void **state)
{
    (void)state;
    pthread_t threads[2];
    int results[2];
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&threads[i], NULL, open_blas, &results[i]), 0);
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    assert_int_equal(results[0], results[1]);
}

int main(void)
{
    for (int i = 0; i < sur_cpu_n_isas; i++) {
        const struct sur_cpu_isa *isa = &sur_cpu_isas[i];
        if (isa->runs() && (!n_tables || tables[n_tables - 1] != isa->ops)) tables[n_tables++] = isa->ops;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_rmsnorm),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_half),
        cmocka_unit_test(test_attend),
        cmocka_unit_test(test_pool),
        cmocka_unit_test(test_pools_share_workers),
        cmocka_unit_test(test_pools_at_once),
        cmocka_unit_test(test_worker_signals),
        cmocka_unit_test(test_blas_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
