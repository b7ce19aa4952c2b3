/* Blocks of quantised weights. Argument: blocks.bin, which the PyPI package gguf made: for Q8_0 four blocks, for Q4_K,
 * Q5_K and Q6_K two blocks each of random bits under scales of ordinary size, every time followed by their weights in
 * fp32; then 192 numbers and what its Q8_0 quantiser makes of them. */
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

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_dequantise),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_plain_types),
    };
    corpus_path = argc > 1 ? argv[1] : "";
    return cmocka_run_group_tests(tests, read_corpus, NULL);
}
