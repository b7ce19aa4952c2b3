/* Blocks of quantised weights. Argument: blocks.bin, which the PyPI package gguf made: for Q8_0 four blocks, for Q4_K,
 * Q5_K and Q6_K two blocks each of random bits under scales of ordinary size, every time followed by their weights in
 * fp32; then 192 numbers and what its Q8_0 quantiser makes of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/blocks.h"

static unsigned char corpus[8824];
static const char *corpus_path;

static const struct {
    enum sur_weight_type type;
    int n_blocks;
    size_t at; /* in the corpus */
} cases[] = {
    {SUR_WEIGHT_Q8_0, 4, 0}, {SUR_WEIGHT_Q4_K, 2, 648}, {SUR_WEIGHT_Q5_K, 2, 2984}, {SUR_WEIGHT_Q6_K, 2, 5384}};
enum { N_CASES = sizeof cases / sizeof cases[0] };

static int read_corpus(void **state)
{
    FILE *in = fopen(corpus_path, "rb");
    if (!in) return -1;
    size_t n = fread(corpus, 1, sizeof corpus, in);
    int more = fgetc(in);
    fclose(in);
    return n == sizeof corpus && more == EOF ? 0 : -1;
}

static void test_sizes(void **state)
{
    static const struct {
        const char *name;
        int values;
        size_t bytes;
    } want[SUR_N_WEIGHT_TYPES] = {{"BF16", 1, 2},     {"F16", 1, 2},      {"F32", 1, 4},     {"Q8_0", 32, 34},
                                  {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210}};
    for (int t = 0; t < SUR_N_WEIGHT_TYPES; t++) {
        assert_string_equal(sur_weight_type_name(t), want[t].name);
        assert_int_equal(sur_weight_quantised(t), want[t].values > 1);
        assert_int_equal(sur_block_values(t), want[t].values);
        assert_int_equal(sur_block_bytes(t), want[t].bytes);
        assert_int_equal(sur_row_bytes(t, 1024), 1024 / (size_t)want[t].values * want[t].bytes);
    }
}

static void test_dequantise(void **state)
{
    for (int c = 0; c < N_CASES; c++) {
        float got[512];
        int cols = cases[c].n_blocks * sur_block_values(cases[c].type);
        size_t row_bytes = sur_row_bytes(cases[c].type, cols);
        unsigned char odd[512]; /* rows need no alignment */
        memcpy(odd + 1, corpus + cases[c].at, row_bytes);
        sur_dequantise_row(cases[c].type, odd + 1, cols, got);
        assert_memory_equal(got, corpus + cases[c].at + row_bytes, (size_t)cols * sizeof got[0]);
    }
}

/* The integers of the groups give the same weights, and keep to the ranges that the header states. */
static void test_groups(void **state)
{
    static const int low[] = {-128, 0, 0, -32}, high[] = {127, 15, 31, 31};
    for (int c = 0; c < N_CASES; c++) {
        float want[512];
        int cols = cases[c].n_blocks * sur_block_values(cases[c].type);
        bool minimum = cases[c].type == SUR_WEIGHT_Q4_K || cases[c].type == SUR_WEIGHT_Q5_K;
        sur_dequantise_row(cases[c].type, corpus + cases[c].at, cols, want);
        for (int i = 0; i < cols; i++) {
            struct sur_block_group g;
            memset(&g, 0x55, sizeof g);
            sur_block_group_at(cases[c].type, corpus + cases[c].at, i / SUR_BLOCK_GROUP, &g);
            int k = i % SUR_BLOCK_GROUP, half = k / 16;
            assert_in_range(g.q[k] + 128, low[c] + 128, high[c] + 128);
            assert_true(minimum ? g.m < 64 && g.sc[half] >= 0 && g.sc[half] < 64 : g.m == 0 && g.dmin == 0);
            float w = sur_block_scale(&g, half) * (float)g.q[k] - sur_block_minimum(&g);
            assert_memory_equal(&w, &want[i], sizeof w);
        }
    }
}

static void test_plain_types(void **state)
{
    static const uint16_t bf16[] = {0x3f80, 0xc049, 0x0001, 0x8000}, f16[] = {0x3c00, 0xc248, 0x0001, 0x8000};
    static const float want_bf16[] = {1, -3.140625f, 0x1p-133f, -0.0f}, want_f16[] = {1, -3.140625f, 0x1p-24f, -0.0f};
    float got[4];
    sur_dequantise_row(SUR_WEIGHT_BF16, bf16, 4, got);
    assert_memory_equal(got, want_bf16, sizeof got);
    sur_dequantise_row(SUR_WEIGHT_F16, f16, 4, got);
    assert_memory_equal(got, want_f16, sizeof got);
    sur_dequantise_row(SUR_WEIGHT_F32, want_bf16, 4, got);
    assert_memory_equal(got, want_bf16, sizeof got);
}

static void test_q8_0(void **state)
{
    float values[192];
    unsigned char got[6 * 34];
    memcpy(values, corpus + 7852, sizeof values);
    sur_quantise_row(SUR_WEIGHT_Q8_0, values, 192, got);
    assert_memory_equal(got, corpus + 7852 + sizeof values, sizeof got);
}

enum { N_VALUES = 1 << 15 };
static float gauss[N_VALUES], tails[N_VALUES]; /* sums of six uniform numbers, products of three */

static void draw(void)
{
    uint32_t u = 1;
    for (int i = 0; i < N_VALUES; i++) {
        for (int k = 0; k < 6; k++) {
            u = u * 1664525u + 1013904223u;
            gauss[i] += (float)(int32_t)u * 0x1p-31f;
        }
        gauss[i] *= 0.02f;
    }
    for (int i = 0; i < N_VALUES; i++) {
        tails[i] = 0.1f;
        for (int k = 0; k < 3; k++) {
            u = u * 1664525u + 1013904223u;
            tails[i] *= (float)(int32_t)u * 0x1p-31f;
        }
    }
}

/* Root mean square of the error, plain, and with weights of mean + |x|, where mean is that of a group. */
static void errors(const float *x, const float *w, double *plain, double *weighted)
{
    double sum = 0, weighed = 0, weights = 0;
    for (int i = 0; i < N_VALUES; i += SUR_BLOCK_GROUP) {
        double mean = 0;
        for (int k = i; k < i + SUR_BLOCK_GROUP; k++) mean += (double)x[k] * (double)x[k] / SUR_BLOCK_GROUP;
        for (int k = i; k < i + SUR_BLOCK_GROUP; k++) {
            double e = (double)w[k] - (double)x[k], weight = sqrt(mean) + fabs((double)x[k]);
            sum += e * e;
            weighed += weight * e * e;
            weights += weight;
        }
    }
    *plain = sqrt(sum / N_VALUES);
    *weighted = sqrt(weighed / weights);
}

/* Not worse than ggml's quantisers (quantize_row_q4_K_ref and so on, of October 2026) are on the same numbers; and the
 * same bytes with every compiler and processor. */
static void test_search(void **state)
{
    static const struct {
        enum sur_weight_type type;
        const float *x;
        double plain, weighted; /* ggml's */
        uint32_t hash;
    } want[] = {
        {SUR_WEIGHT_Q4_K, gauss, 1.9555e-03, 1.9394e-03, 0xdbcfb2c3},
        {SUR_WEIGHT_Q4_K, tails, 1.6558e-03, 1.6577e-03, 0xc6751d35},
        {SUR_WEIGHT_Q5_K, gauss, 9.9174e-04, 9.9042e-04, 0xe9909379},
        {SUR_WEIGHT_Q5_K, tails, 8.4064e-04, 8.4808e-04, 0x4922de92},
        {SUR_WEIGHT_Q6_K, gauss, 4.8914e-04, 4.7579e-04, 0x1a68065e},
        {SUR_WEIGHT_Q6_K, tails, 4.1522e-04, 4.0796e-04, 0x1cd2134},
    };
    unsigned char *row = malloc(N_VALUES);
    float *w = malloc(N_VALUES * sizeof *w);
    draw();
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        double plain, weighted;
        uint32_t hash = 0;
        sur_quantise_row(want[i].type, want[i].x, N_VALUES, row);
        for (size_t k = 0; k < sur_row_bytes(want[i].type, N_VALUES); k++) hash = hash * 31 + row[k];
        sur_dequantise_row(want[i].type, row, N_VALUES, w);
        errors(want[i].x, w, &plain, &weighted);
        print_message("%s: %.4e, %.4e, 0x%08x\n", sur_weight_type_name(want[i].type), plain, weighted, hash);
        assert_true(plain <= want[i].plain && weighted <= want[i].weighted);
        assert_int_equal(hash, want[i].hash);
    }
    free(row);
    free(w);
}

/* Rows that leave a search nothing to divide by. */
static void test_degenerate(void **state)
{
    static const enum sur_weight_type types[] = {SUR_WEIGHT_Q8_0, SUR_WEIGHT_Q4_K, SUR_WEIGHT_Q5_K, SUR_WEIGHT_Q6_K};
    static const float levels[] = {0, -0.0f, 1, -1, 1e-7f, 1e-30f, 1e30f, -3e38f, 60000};
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
        for (size_t l = 0; l < sizeof levels / sizeof levels[0]; l++)
            for (int one = 0; one < 2; one++) {
                float x[256], w[256];
                unsigned char row[8 * 34];
                for (int i = 0; i < 256; i++) x[i] = !one || i == 77 ? levels[l] : 0;
                sur_quantise_row(types[t], x, 256, row);
                sur_dequantise_row(types[t], row, 256, w);
                float off = fabsf(w[77] - x[77]);
                assert_true(isfinite(w[77]) && off <= fabsf(x[77]) * 1.001f);
                if (levels[l] == 1 || levels[l] == -1) assert_true(off < 0.02f && fabsf(w[3] - x[3]) < 0.02f);
            }
}

static void test_rounding(void **state)
{
    static const float x[] = {1, 1.00390625f, 1.01171875f, 70000, -0x1p-24f};
    static const uint16_t want_bf16[] = {0x3f80, 0x3f80, 0x3f82, 0x4789, 0xb380};
    static const uint16_t want_f16[] = {0x3c00, 0x3c04, 0x3c0c, 0x7bff, 0x8001};
    uint16_t got[5];
    sur_quantise_row(SUR_WEIGHT_BF16, x, 5, got);
    assert_memory_equal(got, want_bf16, sizeof got);
    sur_quantise_row(SUR_WEIGHT_F16, x, 5, got);
    assert_memory_equal(got, want_f16, sizeof got);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),       cmocka_unit_test(test_dequantise), cmocka_unit_test(test_groups),
        cmocka_unit_test(test_plain_types), cmocka_unit_test(test_q8_0),       cmocka_unit_test(test_search),
        cmocka_unit_test(test_degenerate),  cmocka_unit_test(test_rounding),
    };
    corpus_path = argc > 1 ? argv[1] : "";
    return cmocka_run_group_tests(tests, read_corpus, NULL);
}
