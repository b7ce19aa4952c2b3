/* The integer products: every table that this processor runs gives the bits of a plain sum over the rows as they lie in
 * a file, for every type, shape, number of columns and share of the rows; packing loses nothing.
 *
 * And against fp64: with the weights w as floats, a product's error is at most that of its activations, half a unit of
 * s per column, plus roundings: every group's term is rounded three times (scale product, conversion, fma) and the
 * segment and the total up to K / 32 + K / 256 times more. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "cpu/isa.h"
#include "cpu/matrix.h"
#include "cpu/os_memory.h"
#include "cpu/quant.h"
#include "surtitle.h"

enum { CANARY = 16, MAX_TABLES = 6 };
static const struct sur_quant_ops *tables[MAX_TABLES];
static int n_tables;
#if defined(__x86_64__)
extern const struct sur_quant_ops
    sur_quant_ymm; /* the AVX-VNNI table in AVX-512's encoding, which runs on more machines */
#endif

static const enum sur_weight_type types[] = {SUR_WEIGHT_Q4_K, SUR_WEIGHT_Q5_K, SUR_WEIGHT_Q6_K, SUR_WEIGHT_Q8_0};
enum { N_TYPES = sizeof types / sizeof *types };

static uint64_t seed = 1;
static uint32_t bits(void)
{
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 32);
}
static float uniform(void)
{
    return (float)(int32_t)bits() * 0x1p-31f;
}

/* A matrix as a file has it: any bits, with fp16 scales between 2^-8 and 2^0. */
struct matrix {
    struct sur_view view;
    struct sur_packed packed;
    uint8_t *file;
};

static void make(struct matrix *m, enum sur_weight_type type, int rows, int cols)
{
    const size_t row_bytes = sur_row_bytes(type, cols), block = sur_block_bytes(type), n = row_bytes * (size_t)rows;
    m->file = malloc(n);
    for (size_t i = 0; i < n; i++) m->file[i] = (uint8_t)bits();
    for (size_t i = 0; i < n; i += block) {
        uint8_t *d = m->file + i + (type == SUR_WEIGHT_Q6_K ? 208 : 0);
        d[1] = (uint8_t)(0x1c + bits() % 32);
        if (type == SUR_WEIGHT_Q4_K || type == SUR_WEIGHT_Q5_K) d[3] = (uint8_t)(0x1c + bits() % 32);
    }
    m->view = (struct sur_view){.type = type, .rows = rows, .cols = cols, .row_bytes = row_bytes, .data = m->file};
    sur_packed_describe(&m->packed, type, rows, cols);
    m->packed.data = aligned_alloc(64, (sur_packed_bytes(&m->packed) + 63) / 64 * 64);
    memset(m->packed.data, 0xee, sur_packed_bytes(&m->packed));
    const int tiles = (rows + SUR_TILE_ROWS - 1) / SUR_TILE_ROWS;
    sur_packed_fill(&m->packed, &m->view, 0, tiles / 2);
    sur_packed_fill(&m->packed, &m->view, tiles / 2, tiles);
}

static void finish(struct matrix *m)
{
    free(m->file);
    free(m->packed.data);
}

/* One result from the row as the file has it, as quant.h says; *bound: how far from fp64 it may be. */
static float plain(const struct matrix *m, int row, const float *x, double *exact, double *bound)
{
    const uint8_t *file = m->file + (size_t)row * m->view.row_bytes;
    const int n = m->view.cols / SUR_GROUP;
    float total = 0, segment = 0;
    double size = 0;
    *exact = *bound = 0;
    for (int g = 0; g < n; g++, x += SUR_GROUP) {
        struct sur_block_group w;
        sur_block_group_at(m->view.type, file, g, &w);
        float max = 0;
        for (int i = 0; i < SUR_GROUP; i++) max = fmaxf(max, fabsf(x[i]));
        const bool zero = max < 0x1p-100f;
        const float s = zero ? 0 : max / 32512.0f, inverse = zero ? 0 : 32512.0f / max, mw = sur_block_minimum(&w);
        int64_t sum[2] = {0, 0}, products[2] = {0, 0};
        for (int i = 0; i < SUR_GROUP; i++) {
            int64_t q = (int64_t)rintf(x[i] * inverse);
            double weight = (double)sur_block_scale(&w, i / 16) * w.q[i] - mw;
            sum[i / 16] += q;
            products[i / 16] += q * w.q[i];
            *exact += weight * x[i];
            size += (fabs((double)sur_block_scale(&w, i / 16) * w.q[i]) + fabs(mw)) * max;
            *bound += fabs(weight) * (0.5 * s + max * 0x1p-22) + (zero ? fabs(weight) * max : 0);
        }
        if (m->view.type == SUR_WEIGHT_Q6_K) {
            for (int h = 0; h < 2; h++) segment = fmaf(sur_block_scale(&w, h) * s, (float)products[h], segment);
        } else {
            segment = fmaf(sur_block_scale(&w, 0) * s, (float)(products[0] + products[1]), segment);
            if (m->view.type != SUR_WEIGHT_Q8_0) segment = fmaf(-(mw * s), (float)(sum[0] + sum[1]), segment);
        }
        if (g % SUR_BLOCK_GROUPS == SUR_BLOCK_GROUPS - 1 || g == n - 1) {
            total += segment;
            segment = 0;
        }
    }
    *bound += (3 + 2 * 8 + n / 8) * 0x1p-24 * size;
    return total;
}

static void fill_columns(float *x, int n, int kind)
{
    for (int i = 0; i < n; i++) {
        const float f = uniform();
        x[i] = kind == 0   ? f
               : kind == 1 ? (i % 97 == 0 ? 1e4f * f : f) /* outliers */
               : kind == 2 ? f * 1e-36f                   /* below what counts */
               : kind == 3 ? (float)(bits() % 2) * 3e38f
                           : (i / SUR_GROUP % 2 ? 0 : f);
    }
}

static void check_product(const struct matrix *m, const struct sur_quant_ops *ops, int n, int kind, bool accumulate)
{
    const int rows = m->view.rows, cols = m->view.cols, stride = rows + 3;
    float *x = malloc((size_t)(n * cols) * sizeof *x), *y = malloc((size_t)(n * stride + 2 * CANARY) * sizeof *y);
    float *bias = malloc((size_t)rows * sizeof *bias), *out = y + CANARY;
    struct sur_quant_group *q = malloc((size_t)(n * cols / SUR_GROUP) * sizeof *q);
    fill_columns(x, n * cols, kind);
    for (int c = 0; c < n; c++)
        ops->quantise(q + (size_t)c * (size_t)(cols / SUR_GROUP), x + (size_t)c * (size_t)cols, cols);
    for (int i = 0; i < rows; i++) bias[i] = uniform();
    for (int i = 0; i < n * stride + 2 * CANARY; i++) y[i] = 12345;
    struct sur_quant_matmul mm = {&m->packed, q, n, out, (size_t)stride, bias, accumulate};
    const int cut = rows / 2 / SUR_TILE_ROWS * SUR_TILE_ROWS;
    ops->matmul(&mm, cut, rows);
    ops->matmul(&mm, 0, cut);
    for (int c = 0; c < n; c++)
        for (int r = 0; r < stride; r++) {
            double exact, bound;
            if (r >= rows) {
                assert_true(out[c * stride + r] == 12345);
                continue;
            }
            float sum = plain(m, r, x + (size_t)c * (size_t)cols, &exact, &bound), biased = sum + bias[r];
            float expected = accumulate ? 12345 + biased : biased, got = out[c * stride + r];
            assert_memory_equal(&got, &expected, sizeof got);
            if (kind != 3) assert_true(fabs(sum - exact) <= bound);
        }
    for (int i = 0; i < CANARY; i++) assert_true(y[i] == 12345 && out[n * stride + i] == 12345);
    free(x);
    free(y);
    free(bias);
    free(q);
}

static void test_products(void **state)
{
    for (int t = 0; t < N_TYPES; t++) {
        const bool q8 = types[t] == SUR_WEIGHT_Q8_0;
        const int shapes[][2] = {{45, q8 ? 1280 + 96 : 1536}, {16, q8 ? 32 : 256}, {3, 768}, {160, q8 ? 320 : 512}};
        for (int s = 0; s < 4; s++) {
            struct matrix m;
            make(&m, types[t], shapes[s][0], shapes[s][1]);
            for (int i = 0; i < n_tables; i++)
                for (int n = 1; n <= 9; n += n < 5 ? 1 : 4)
                    check_product(&m, tables[i], n, (n + s + i) % 5, (n + i) % 2);
            finish(&m);
        }
    }
}

/* Columns past what stays in a cache: the sweep over the weights is cut, and no bit changes. */
static void test_many_columns(void **state)
{
    struct matrix m;
    make(&m, SUR_WEIGHT_Q4_K, 32, 9216);
    for (int i = 0; i < n_tables; i++) check_product(&m, tables[i], 37, 0, false);
    finish(&m);
}

static void test_packing(void **state)
{
    for (int t = 0; t < N_TYPES; t++) {
        const int rows = 37, cols = types[t] == SUR_WEIGHT_Q8_0 ? 1120 : 1280;
        struct matrix m;
        make(&m, types[t], rows, cols);
        float *a = malloc((size_t)cols * sizeof *a), *b = malloc((size_t)cols * sizeof *b);
        for (int r = 0; r < rows; r++) {
            sur_packed_row(&m.packed, r, a);
            sur_dequantise_row(types[t], m.file + (size_t)r * m.view.row_bytes, cols, b);
            assert_memory_equal(a, b, (size_t)cols * sizeof *a);
        }
        free(a);
        free(b);
        finish(&m);
    }
}

/* A NaN or an infinity among the activations is never swallowed. */
static void test_not_finite(void **state)
{
    enum { COLS = 512 };
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int t = 0; t < N_TYPES; t++) {
        struct matrix m;
        make(&m, types[t], 16, COLS);
        for (int i = 0; i < n_tables; i++)
            for (int b = 0; b < 3; b++) {
                float x[COLS], y[16];
                struct sur_quant_group q[COLS / SUR_GROUP];
                fill_columns(x, COLS, 0);
                x[bits() % COLS] = bad[b];
                tables[i]->quantise(q, x, COLS);
                struct sur_quant_matmul mm = {&m.packed, q, 1, y, 16, NULL, false};
                tables[i]->matmul(&mm, 0, 16);
                for (int r = 0; r < 16; r++) assert_true(isnan(y[r]));
            }
        finish(&m);
    }
}

static void find_tables(void)
{
    for (int i = 0; i < sur_cpu_n_isas; i++) {
        const struct sur_cpu_isa *isa = &sur_cpu_isas[i];
        bool known = false;
        for (int j = 0; j < n_tables; j++) known |= tables[j] == isa->quant;
        if (!known && isa->runs()) tables[n_tables++] = isa->quant;
#if defined(__x86_64__)
        if (isa->quant == &sur_quant_avx512 && isa->runs()) tables[n_tables++] = &sur_quant_ymm;
#endif
    }
}

/* A limit of this process is not a lack of the machine. */
static void test_memory_limit(void **state)
{
    const struct sur_view view = {.type = SUR_WEIGHT_Q8_0, .rows = 1 << 16, .cols = 4096};
    struct sur_cpu_matrix matrix = {.view = &view}, *const all[] = {&matrix};
    struct sur_cpu_arena arena = {0};
    struct rlimit was;
    assert_int_equal(getrlimit(RLIMIT_AS, &was), 0);
    const struct rlimit small = {64 << 20, was.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_AS, &small), 0);
    const int r = sur_cpu_arena_pack(&arena, all, 1, NULL);
    assert_int_equal(setrlimit(RLIMIT_AS, &was), 0);
    assert_int_equal(r, SUR_ERR_MEMORY);
    assert_string_equal(sur_error_text(), "not enough memory for the model's weights, which need 272 MiB");
    assert_null(arena.memory);
}

/* What the machine cannot hold is refused before it is asked for. */
static void test_memory_available(void **state)
{
    enum { MANY = 64 }; /* of 68 GiB each */
    const struct sur_view view = {.type = SUR_WEIGHT_Q8_0, .rows = 1 << 20, .cols = 1 << 16};
    struct sur_cpu_matrix matrices[MANY], *all[MANY];
    struct sur_cpu_arena arena = {0};
    const uint64_t have = sur_memory_available();
    assert_true(have > UINT64_C(1) << 20 && have < UINT64_C(1) << 50);
    for (int i = 0; i < MANY; i++) {
        matrices[i] = (struct sur_cpu_matrix){.view = &view};
        all[i] = &matrices[i];
    }
    assert_int_equal(sur_cpu_arena_pack(&arena, all, MANY, NULL), SUR_ERR_BACKEND);
    assert_non_null(strstr(sur_error_text(), "MiB are free"));
    assert_null(arena.memory);
}

int main(void)
{
    find_tables();
    for (int i = 0; i < n_tables; i++) print_message("table %s\n", tables[i]->name);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products),     cmocka_unit_test(test_many_columns),
                                       cmocka_unit_test(test_packing),      cmocka_unit_test(test_not_finite),
                                       cmocka_unit_test(test_memory_limit), cmocka_unit_test(test_memory_available)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
