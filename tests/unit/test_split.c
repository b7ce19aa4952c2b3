/* Two backends as one (backend_split.c), CPU and CPU on a tiny random model (argument: its folder), against the CPU
 * alone: the same bits, the same edges, the same refusals. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backend_choice.h"
#include "model/schedule.h"

enum { PROMPT = 39, TOKENS = SUR_ROW_RING + 192, ALONE, SPLIT };
static struct sur_checkpoint *checkpoint;
static const struct sur_backend *backends[2];
static void *states[2];
static float *mel; /* [TOKENS tokens] */
static int32_t tokens[TOKENS];
static struct sur_step_out one[TOKENS], two[TOKENS];

static void *session(int which, int max_tokens, int64_t start)
{
    void *s = NULL;
    struct sur_backend_session_options o = {.delay = 6, .n_prompt = PROMPT, .max_tokens = max_tokens, .start = start};
    if (backends[which - ALONE]->session_create(&s, states[which - ALONE], &o)) fail_msg("%s", sur_error_text());
    return s;
}

static int encode(int which, void *s, int first, int n)
{
    struct sur_encode_job job = {s, n, mel + (size_t)first * SUR_TOKEN_FRAMES * (size_t)checkpoint->params.n_mels};
    return backends[which - ALONE]->encode(&job, 1);
}

static int step(int which, void *s, int first, int n, struct sur_step_out *out)
{
    struct sur_step_job job = {s, n, tokens + first, n > SUR_STEP_MAX ? 1 : n, out + first};
    return backends[which - ALONE]->step(&job, 1);
}

/* Encodes as far ahead as it may, in passes of `pass`, and steps with a rewind now and then: every result. */
static int run(int which, int pass, int64_t start, struct sur_step_out *out)
{
    const struct sur_backend *b = backends[which - ALONE];
    void *s = session(which, pass, start);
    int encoded = 0, stepped = 0, n_again = 0;
    memset(out, 0, TOKENS * sizeof *out);
    while (stepped < TOKENS) {
        int n = TOKENS - encoded < pass ? TOKENS - encoded : pass;
        int r = n ? encode(which, s, encoded, n) : SUR_AGAIN;
        if (r == SUR_OK) {
            encoded += n;
            continue;
        }
        assert_int_equal(r, SUR_AGAIN);
        n_again += n > 0;
        int before = stepped;
        while (stepped < encoded && stepped < before + 50) {
            n = stepped ? 1 + stepped % SUR_STEP_MAX : PROMPT;
            if (n > encoded - stepped) n = encoded - stepped;
            assert_int_equal(step(which, s, stepped, n, out), SUR_OK);
            if (stepped && n > 2 && stepped % 3 == 0) { /* the last two again */
                assert_int_equal(b->rewind(s, start + stepped + n - 2), SUR_OK);
                assert_int_equal(step(which, s, stepped + n - 2, 2, out), SUR_OK);
            }
            stepped += n;
        }
        assert_true(stepped > before); /* else it would wait for ever */
    }
    b->session_destroy(s);
    return n_again;
}

static void test_bits(void **state)
{
    (void)state;
    static const struct {
        int pass;
        int64_t start;
    } cases[] = {{1, 0}, {64, 0}, {64, 131000}};
    for (int i = 0; i < 3; i++) {
        assert_true(run(ALONE, cases[i].pass, cases[i].start, one) > 1);
        assert_true(run(SPLIT, cases[i].pass, cases[i].start, two) > 1); /* the ring was full, and nothing was lost */
        assert_memory_equal(one, two, sizeof one);
        assert_true(one[TOKENS - 1].top[0] > one[TOKENS - 1].top[1]);
    }
}

static void test_full_ring(void **state)
{
    (void)state;
    const struct sur_backend *b = backends[1];
    size_t dim = (size_t)checkpoint->params.decoder.dim;
    float *x = malloc(2 * SUR_ROW_RING * dim * sizeof *x), *y = x + SUR_ROW_RING * dim;
    void *s = session(SPLIT, 64, 0), *alone = session(ALONE, 64, 0);
    for (int i = 0; i < SUR_ROW_RING / 64; i++) {
        assert_int_equal(encode(SPLIT, s, 64 * i, 64), SUR_OK);
        assert_int_equal(encode(ALONE, alone, 64 * i, 64), SUR_OK);
    }
    assert_int_equal(encode(SPLIT, s, SUR_ROW_RING, 1), SUR_AGAIN);
    assert_int_equal(b->rows(s, 0, 0, SUR_ROW_RING, x), SUR_OK);
    assert_int_equal(backends[0]->rows(alone, 0, 0, SUR_ROW_RING, y), SUR_OK);
    assert_memory_equal(x, y, SUR_ROW_RING * dim * sizeof *x);
    assert_int_equal(step(SPLIT, s, 0, PROMPT, two), SUR_OK);
    assert_int_equal(encode(SPLIT, s, SUR_ROW_RING, 1), SUR_OK); /* and what was refused before left no trace */
    assert_int_equal(step(ALONE, alone, 0, PROMPT, one), SUR_OK);
    assert_int_equal(encode(ALONE, alone, SUR_ROW_RING, 1), SUR_OK);
    assert_int_equal(b->rows(s, 0, SUR_ROW_RING, 1, x), SUR_OK);
    assert_int_equal(backends[0]->rows(alone, 0, SUR_ROW_RING, 1, y), SUR_OK);
    assert_memory_equal(x, y, dim * sizeof *x);
    b->session_destroy(s);
    backends[0]->session_destroy(alone);
    free(x);
}

static void test_refusals(void **state)
{
    (void)state;
    const struct sur_backend *b = backends[1];
    void *s = session(SPLIT, 2, 0);
    size_t dim = (size_t)checkpoint->params.decoder.dim;
    float *x = calloc(2 * dim, sizeof *x);
    assert_int_equal(step(SPLIT, s, 0, 1, two), SUR_AGAIN); /* no rows yet */
    assert_int_equal(encode(SPLIT, s, 0, 3), SUR_ERR_ARGUMENT);
    assert_int_equal(encode(SPLIT, s, 0, 2), SUR_OK);
    assert_int_equal(b->rewind(s, 3), SUR_ERR_ARGUMENT);        /* there are two rows */
    assert_int_equal(b->rows(s, 1, 1, 1, x), SUR_ERR_ARGUMENT); /* in order */
    assert_int_equal(b->rows(s, 1, 2, 2, x), SUR_OK);
    assert_int_equal(encode(SPLIT, s, 4, 1), SUR_OK); /* goes on after them */
    assert_int_equal(b->rows(s, 0, 4, 1, x), SUR_OK);
    assert_true(x[0] != 0 || x[1] != 0);
    assert_int_equal(step(SPLIT, s, 0, 5, two), SUR_OK);
    assert_int_equal(step(SPLIT, s, 5, 1, two), SUR_AGAIN);
    assert_int_equal(b->reset(s), SUR_OK);
    assert_int_equal(step(SPLIT, s, 0, 1, two), SUR_AGAIN);
    assert_int_equal(encode(SPLIT, s, 0, 1), SUR_OK);
    assert_int_equal(b->rows(s, 0, 0, 1, x + dim), SUR_OK);
    b->session_destroy(s);
    b->session_destroy(NULL);
    free(x);
}

/* Two sessions in one call; the jobs come back as they were. */
static void test_jobs(void **state)
{
    (void)state;
    void *s[2] = {session(SPLIT, 1, 0), session(SPLIT, 1, 0)};
    for (int i = 0; i < PROMPT; i++) {
        struct sur_encode_job e[2] = {{s[0], 1, mel}, {s[1], 1, mel}};
        struct sur_step_out out[2];
        struct sur_step_job j[2] = {{s[0], 1, tokens + i, 1, out}, {s[1], 1, tokens + i, 1, out + 1}};
        assert_int_equal(backends[1]->encode(e, 2), SUR_OK);
        assert_int_equal(backends[1]->step(j, 2), SUR_OK);
        assert_memory_equal(out, out + 1, sizeof *out);
        assert_ptr_equal(j[0].session, s[0]);
        assert_ptr_equal(j[1].session, s[1]);
        assert_int_equal(backends[1]->step(j, 2), SUR_AGAIN);
        assert_ptr_equal(j[1].session, s[1]);
        if (i % 2) continue;
        assert_int_equal(backends[1]->encode(e + 1, 1), SUR_OK); /* one job of two can run */
        assert_int_equal(backends[1]->step(j, 2), SUR_AGAIN);
        assert_int_equal(j[0].status, SUR_AGAIN);
        assert_int_equal(j[1].status, SUR_OK);
        assert_int_equal(backends[1]->encode(e, 1), SUR_OK);
        assert_int_equal(backends[1]->step(j, 1), SUR_OK);
        assert_memory_equal(out, out + 1, sizeof *out);
    }
    backends[1]->session_destroy(s[0]);
    backends[1]->session_destroy(s[1]);
}

static void *encode_all(void *s)
{
    for (int i = 0; i < TOKENS; i++)
        while (encode(SPLIT, s, i, 1) == SUR_AGAIN) sched_yield();
    return NULL;
}

/* One thread encodes while another steps: for TSan, and the same bits. */
static void test_threads(void **state)
{
    (void)state;
    pthread_t thread;
    run(ALONE, 1, 0, one);
    void *s = session(SPLIT, 1, 0);
    assert_int_equal(pthread_create(&thread, NULL, encode_all, s), 0);
    for (int i = 0, r = SUR_OK; i < TOKENS && r == SUR_OK; i++) {
        while ((r = step(SPLIT, s, i, 1, two)) == SUR_AGAIN) sched_yield();
        assert_int_equal(r, SUR_OK);
    }
    pthread_join(thread, NULL);
    assert_memory_equal(one + PROMPT, two + PROMPT, (TOKENS - PROMPT) * sizeof *one);
    backends[1]->session_destroy(s);
}

static void test_stats(void **state)
{
    (void)state;
    struct sur_model_stats a = {0}, m = {0};
    int n = checkpoint->params.encoder.n_layers + checkpoint->params.decoder.n_layers;
    backends[0]->stats(states[0], &a);
    backends[1]->stats(states[1], &m);
    assert_int_equal(a.n_layers, n);
    assert_int_equal(a.n_resident, n);
    assert_int_equal(m.n_layers, n);
    assert_int_equal(m.n_resident, n);
    assert_true(a.load_ns > 0 && m.load_ns > 0 && a.uploads == 0 && m.device_bytes == 0);
}

/* What was wished for: halves that contradict the whole, and two halves that are one. */
static void test_wishes(void **state)
{
    (void)state;
    const struct sur_backend *b;
    void *st;
    struct sur_model_options o = {.threads = 1, .gpu = -1, .backend = SUR_BACKEND_CPU, .encode_on = SUR_BACKEND_CUDA};
    assert_int_equal(sur_backend_open(&b, &st, checkpoint, &o), SUR_ERR_ARGUMENT);
    o.backend = SUR_BACKEND_AUTO;
    o.encode_on = o.decode_on = SUR_BACKEND_CPU;
    assert_int_equal(sur_backend_open(&b, &st, checkpoint, &o), SUR_OK);
    assert_ptr_equal(b, &sur_backend_cpu);
    b->close(st);
    o.vram_limit_mib = 1;
    assert_int_equal(sur_backend_open(&b, &st, checkpoint, &o), SUR_ERR_ARGUMENT);
    assert_null(st);
    o.vram_limit_mib = 0;
    o.window_attention = SUR_ATTENTION_GEMM;
    assert_int_equal(sur_backend_open(&b, &st, checkpoint, &o), SUR_ERR_ARGUMENT);
}

int main(int argc, char **argv)
{
    if (argc != 2) return fprintf(stderr, "usage: test_split MODEL\n"), 2;
    struct sur_model_options o[2] = {{.threads = 1, .gpu = -1}, {.threads = 1, .gpu = -1}};
    const struct sur_backend *halves[2] = {&sur_backend_cpu, &sur_backend_cpu};
    backends[0] = &sur_backend_cpu;
    if (sur_checkpoint_open(&checkpoint, argv[1]) || sur_backend_cpu.open(&states[0], checkpoint, o) ||
        sur_split_open(&backends[1], &states[1], halves, checkpoint, o) || strcmp(backends[1]->name, "cpu+cpu") != 0)
        return fprintf(stderr, "%s\n", sur_error_text()), 1;
    size_t n = (size_t)TOKENS * SUR_TOKEN_FRAMES * (size_t)checkpoint->params.n_mels;
    mel = malloc(n * sizeof *mel);
    for (uint32_t i = 0, x = 5; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        mel[i] = (float)(int32_t)x * 0x1p-31f;
    }
    for (int i = 0; i < TOKENS; i++) tokens[i] = 1 + i * 37 % (checkpoint->params.vocab_size - 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bits),   cmocka_unit_test(test_full_ring), cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_jobs),   cmocka_unit_test(test_threads),   cmocka_unit_test(test_stats),
        cmocka_unit_test(test_wishes),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < 2; i++) backends[i]->close(states[i]);
    sur_checkpoint_close(&checkpoint);
    free(mel);
    return failed;
}
