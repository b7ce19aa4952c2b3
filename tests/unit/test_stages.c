/* What lies between sound and tokens, against the golden samples of the fp64 reference: mel frames, adapter rows and
 * logits, in both modes of a session.
 *
 * usage: test_stages PYTHON FOLDER    FOLDER holds the golden answers and cases.py, which writes checkpoint and clip */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "audio/mel.h"
#include "model/schedule.h"
#include "surtitle.h"

enum { N_LEFT_PAD = 32, HEADER_BYTES = 44, MAX_VOCAB = 2048, MAX_DIM = 256 };

static const char *python, *golden_folder;
static char folder[] = "/tmp/surtitle-stages-XXXXXX";

struct golden {
    json_t *root;
    int delay; /* tokens */
    enum sur_kv_type kv;
    int32_t *tokens;
    size_t n_tokens;
    int16_t *samples;
    size_t n_samples;
};

static void load_clip(struct golden *g)
{
    char path[128];
    snprintf(path, sizeof path, "%s/clip.wav", folder);
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    fseek(in, 0, SEEK_END);
    g->n_samples = ((size_t)ftell(in) - HEADER_BYTES) / 2;
    g->samples = malloc(g->n_samples * 2);
    fseek(in, HEADER_BYTES, SEEK_SET);
    assert_int_equal(fread(g->samples, 2, g->n_samples, in), g->n_samples);
    fclose(in);
}

static void load(struct golden *g, const char *name)
{
    char line[1024];
    memset(g, 0, sizeof *g);
    snprintf(line, sizeof line, "'%s' '%s/cases.py' %s '%s'", python, golden_folder, name, folder);
    assert_int_equal(system(line), 0);
    snprintf(line, sizeof line, "%s/%s.json", golden_folder, name);
    g->root = json_load_file(line, 0, NULL);
    assert_non_null(g->root);
    g->delay = (int)json_integer_value(json_object_get(g->root, "delay_ms")) / 80;
    g->kv = strcmp(json_string_value(json_object_get(g->root, "kv")), "fp16") == 0 ? SUR_KV_FP16 : SUR_KV_FP32;
    const json_t *tokens = json_object_get(g->root, "tokens");
    g->n_tokens = json_array_size(tokens);
    g->tokens = malloc(g->n_tokens * sizeof g->tokens[0]);
    for (size_t i = 0; i < g->n_tokens; i++) g->tokens[i] = (int32_t)json_integer_value(json_array_get(tokens, i));
    load_clip(g);
}

static void unload(struct golden *g)
{
    json_decref(g->root);
    free(g->tokens);
    free(g->samples);
}

/* Position of `index` among the samples of a stage, or -1. */
static int find_sample(const json_t *stage, int64_t index)
{
    const json_t *list = json_object_get(stage, "index");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_integer_value(json_array_get(list, i)) == index) return (int)i;
    return -1;
}

/* Every stride-th of n values against sample `at`: each within bound. Returns the largest difference. */
static double compare(const json_t *stage, int at, const float *values, size_t n, double bound, const char *what)
{
    const json_t *want = json_array_get(json_object_get(stage, "values"), (size_t)at);
    size_t stride = (size_t)json_integer_value(json_object_get(stage, "stride"));
    double largest = 0;
    assert_int_equal(json_array_size(want), (n + stride - 1) / stride);
    for (size_t i = 0; i < n; i += stride) {
        double difference = fabs(values[i] - json_number_value(json_array_get(want, i / stride)));
        if (!(difference <= bound))
            fail_msg("%s: sample %d, value %zu: off by %g, not %g", what, at, i, difference, bound);
        largest = fmax(largest, difference);
    }
    return largest;
}

static double rms(const json_t *stage)
{
    double sum = 0;
    size_t n = 0, i, j;
    json_t *list, *value;
    json_array_foreach(json_object_get(stage, "values"), i, list)
    {
        json_array_foreach(list, j, value) sum += json_number_value(value) * json_number_value(value);
        n += json_array_size(list);
    }
    return sqrt(sum / (double)n);
}

/* Rows. fp32: about 22 products in a row of the tiny towers, sums of at most 512 terms in 16 lanes (512 / 16 + 8
 * roundings of 2^-24 each), relative to a row's typical value. fp16 besides: both sides keep the same numbers but for
 * roundings that fall to the other side, 2^-10 of a key or value in each of 3 layers. */
static double rows_bound(const struct golden *g)
{
    double fp32 = 22 * (512 / 16 + 8) * 0x1p-24, fp16 = g->kv == SUR_KV_FP16 ? 3 * 0x1p-10 : 0;
    return rms(json_object_get(g->root, "rows")) * (fp32 + fp16);
}

/* Logits: docs/model.md, "Arithmetic". */
static double logits_bound(const struct golden *g)
{
    return g->kv == SUR_KV_FP16 ? 2e-3 : 1e-4;
}

/* Mel is computed in fp64 and rounded once: values are below 2, so half a unit is 2^-24. The answer has nine digits. */
static void check_mel(const struct golden *g)
{
    static const float zeros[SUR_TOKEN_SAMPLES];
    const json_t *stage = json_object_get(g->root, "mel");
    size_t n_mels = json_array_size(json_array_get(json_object_get(stage, "values"), 0));
    int64_t n_tokens = sur_schedule_tokens(N_LEFT_PAD, g->delay, (int64_t)g->n_samples), n_frames = 0;
    int n_compared = 0;
    float frames[16][512], *samples = malloc(g->n_samples * sizeof *samples);
    struct sur_mel *mel = NULL;
    for (size_t i = 0; i < g->n_samples; i++) samples[i] = (float)g->samples[i] / 32768;
    assert_int_equal(sur_mel_create(&mel, (int)n_mels, 1.5), SUR_OK);
    const int64_t start = N_LEFT_PAD * (int64_t)SUR_TOKEN_SAMPLES, end = start + (int64_t)g->n_samples;
    for (int64_t at = 0; n_frames < n_tokens * SUR_TOKEN_FRAMES;) {
        int64_t next = at < start ? start : at < end ? end : INT64_MAX;
        size_t n = next - at < SUR_TOKEN_SAMPLES ? (size_t)(next - at) : SUR_TOKEN_SAMPLES, used = 0;
        const float *from = at >= start && at < end ? samples + (at - start) : zeros;
        size_t got = sur_mel_process(mel, from, n, &used, frames[0], 16 * 512 / n_mels);
        for (size_t i = 0; i < got; i++, n_frames++) {
            int sample = find_sample(stage, n_frames);
            if (sample < 0) continue;
            compare(stage, sample, frames[0] + i * n_mels, n_mels, 0x1p-24 + 1e-9, "mel");
            n_compared++;
        }
        at += (int64_t)used;
    }
    assert_int_equal(n_compared, json_array_size(json_object_get(stage, "index")));
    sur_mel_destroy(&mel);
    free(samples);
}

struct run {
    const struct golden *g;
    struct sur_session *session;
    int64_t steps;
    size_t next_row; /* among the samples of the rows */
    int n_logits;
    double row_error, logit_error;
};

static void look_at_rows(struct run *r)
{
    const json_t *stage = json_object_get(r->g->root, "rows"), *index = json_object_get(stage, "index");
    struct sur_session_stats stats;
    float row[MAX_DIM];
    sur_session_get_stats(r->session, &stats);
    while (r->next_row < json_array_size(index)) {
        int64_t wanted = json_integer_value(json_array_get(index, r->next_row));
        if (wanted >= stats.tokens_encoded) return;
        size_t dim = json_array_size(json_array_get(json_object_get(stage, "values"), r->next_row));
        assert_int_equal(sur_session_stage(r->session, "rows", wanted, row, dim), dim);
        r->row_error = fmax(r->row_error, compare(stage, (int)r->next_row++, row, dim, rows_bound(r->g), "rows"));
    }
}

/* The step that was just run: its token, and its logits if the answer holds them. */
static void look_at_step(struct run *r, const struct sur_event *e)
{
    static float logits[MAX_VOCAB];
    const json_t *stage = json_object_get(r->g->root, "logits");
    assert_int_equal(e->step, r->steps);
    r->steps++;
    int sample = find_sample(stage, e->step);
    if (sample < 0) return;
    int64_t n = sur_session_stage(r->session, "logits", 0, logits, MAX_VOCAB);
    assert_true(n > 0);
    r->logit_error = fmax(r->logit_error, compare(stage, sample, logits, (size_t)n, logits_bound(r->g), "logits"));
    r->n_logits++;
}

static int drain(struct run *r)
{
    struct sur_event e;
    int encoded = sur_session_encode(r->session, 1), decoded;
    assert_true(encoded == SUR_OK || encoded == SUR_AGAIN || encoded == SUR_END);
    look_at_rows(r);
    decoded = sur_session_decode(r->session, 1);
    assert_true(decoded == SUR_OK || decoded == SUR_AGAIN || decoded == SUR_END);
    while (sur_session_poll(r->session, &e) == SUR_OK)
        if (e.type == SUR_EVENT_TOKEN) look_at_step(r, &e);
    return decoded == SUR_END ? SUR_END : encoded == SUR_OK || decoded == SUR_OK ? SUR_OK : SUR_AGAIN;
}

static void check_session(const struct golden *g, struct sur_model *model, enum sur_session_mode mode)
{
    struct run r = {.g = g};
    struct sur_session_options so;
    int rc = SUR_OK;
    sur_session_options_init(&so);
    so.mode = mode;
    so.delay_ms = g->delay * 80;
    so.force = g->tokens;
    so.n_force = g->n_tokens;
    assert_int_equal(sur_session_create(&r.session, model, &so), SUR_OK);
    for (size_t at = 0; at < g->n_samples;) {
        size_t n = g->n_samples - at < 4000 ? g->n_samples - at : 4000;
        at += sur_session_feed(r.session, g->samples + at, n);
        while (drain(&r) == SUR_OK) {
        }
    }
    sur_session_finish(r.session);
    while (rc == SUR_OK) rc = drain(&r);
    assert_int_equal(rc, SUR_END);
    assert_int_equal(r.steps, g->n_tokens);
    assert_int_equal(r.next_row, json_array_size(json_object_get(json_object_get(g->root, "rows"), "index")));
    assert_int_equal(r.n_logits, json_array_size(json_object_get(json_object_get(g->root, "logits"), "index")));
    print_message("%s: rows within %.1e (bound %.1e), logits within %.1e (bound %.0e)\n",
                  mode == SUR_LIVE ? "live" : "whole", r.row_error, rows_bound(g), r.logit_error, logits_bound(g));
    sur_session_destroy(&r.session);
}

static void check_case(const char *name)
{
    struct golden g;
    struct sur_model *model = NULL;
    struct sur_model_options mo;
    char path[128];
    load(&g, name);
    check_mel(&g);
    snprintf(path, sizeof path, "%s/model", folder);
    sur_model_options_init(&mo);
    mo.dir = path;
    mo.backend = SUR_BACKEND_CPU;
    mo.kv = g.kv;
    if (sur_model_open(&model, &mo) != SUR_OK) fail_msg("%s", sur_error_text());
    check_session(&g, model, SUR_WHOLE);
    check_session(&g, model, SUR_LIVE);
    sur_model_close(&model);
    unload(&g);
}

static void test_wrap_fp32(void **state)
{
    check_case("wrap-long-480-fp32");
}

static void test_wrap_fp16(void **state)
{
    check_case("wrap-cut-2400-fp16");
}

static void test_odd_fp32(void **state)
{
    check_case("odd-long-80-fp32");
}

static void test_odd_fp16(void **state)
{
    check_case("odd-long-2400-fp16");
}

static void test_eos_fp32(void **state)
{
    check_case("eos-long-1200-fp32");
}

static int make_folder(void **state)
{
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    char line[128];
    snprintf(line, sizeof line, "rm -r '%s'", folder);
    return system(line);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrap_fp32), cmocka_unit_test(test_wrap_fp16), cmocka_unit_test(test_odd_fp32),
        cmocka_unit_test(test_odd_fp16),  cmocka_unit_test(test_eos_fp32),
    };
    if (argc != 3) return 2;
    python = argv[1];
    golden_folder = argv[2];
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
