/* A backend through its table, on a tiny random model: columns, jobs, rewinds and rows that come from elsewhere change
 * no bit; the rings' edges; positions far out. Arguments: the model's folder, and "cuda" for that one (77: it cannot be
 * used here), which is then compared with the CPU, too. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/backend.h"
#include "model/schedule.h"

enum { PROMPT = 39, STEPS = 100 };
static struct sur_checkpoint *checkpoint;
static const struct sur_backend *b = &sur_backend_cpu;
static void *state_, *cpu; /* cpu: NULL where b is the CPU's own */
static float *mel;         /* [STEPS + PROMPT tokens] */

static void *create(const struct sur_backend_session_options *o)
{
    void *s = NULL;
    if (b->session_create(&s, state_, o)) fail_msg("%s", sur_error_text());
    return s;
}

static void *session_of(int n_prompt, int max_tokens, int64_t start)
{
    return create(&(struct sur_backend_session_options){
        .delay = 6, .n_prompt = n_prompt, .max_tokens = max_tokens, .start = start});
}

static void *session(int max_tokens, int64_t start)
{
    return session_of(PROMPT, max_tokens, start);
}

static const float *mel_at(int token)
{
    return mel + (size_t)token * SUR_TOKEN_FRAMES * (size_t)checkpoint->params.n_mels;
}

static void encode(void *s, int first, int n)
{
    struct sur_encode_job job = {s, n, mel_at(first)};
    assert_int_equal(b->encode(&job, 1), SUR_OK);
}

static int step(void *s, int n, const int32_t *tokens, int n_out, struct sur_step_out *out)
{
    struct sur_step_job job = {s, n, tokens, n_out, out};
    return b->step(&job, 1);
}

/* Encodes and steps STEPS positions after the prompt, one by one. */
static void reference(struct sur_step_out *out, int32_t *tokens)
{
    void *s = session(1, 0);
    for (int i = 0; i < PROMPT + STEPS; i++) {
        tokens[i] = 1 + i * 37 % (checkpoint->params.vocab_size - 1);
        encode(s, i, 1);
        assert_int_equal(step(s, 1, tokens + i, 1, out + i), SUR_OK);
    }
    b->session_destroy(s);
}

static struct sur_step_out one[PROMPT + STEPS], many[PROMPT + STEPS];
static int32_t tokens[PROMPT + STEPS];

static void test_columns(void **state)
{
    (void)state;
    reference(one, tokens);
    void *s = session(64, 0);
    for (int i = 0; i < PROMPT + STEPS; i += 64) encode(s, i, PROMPT + STEPS - i < 64 ? PROMPT + STEPS - i : 64);
    assert_int_equal(step(s, PROMPT, tokens, 1, many + PROMPT - 1), SUR_OK);
    for (int i = PROMPT, n = 1; i < PROMPT + STEPS; i += n, n = n % SUR_STEP_MAX + 1) {
        if (n > PROMPT + STEPS - i) n = PROMPT + STEPS - i;
        assert_int_equal(step(s, n, tokens + i, n, many + i), SUR_OK);
    }
    assert_memory_equal(one + PROMPT - 1, many + PROMPT - 1, (STEPS + 1) * sizeof *one);
    b->session_destroy(s);
}

/* A prompt shorter than SUR_STEP_MAX: what follows it may be SUR_STEP_MAX wide all the same. */
static void test_short_prompt(void **state)
{
    (void)state;
    enum { SHORT = 3, N = SHORT + SUR_STEP_MAX };
    reference(one, tokens);
    for (int i = 0; i < 8; i++) {
        void *s = session_of(SHORT, 64, 0);
        encode(s, 0, N);
        assert_int_equal(step(s, SHORT, tokens, 1, many + SHORT - 1), SUR_OK);
        assert_int_equal(step(s, SUR_STEP_MAX, tokens + SHORT, SUR_STEP_MAX, many + SHORT), SUR_OK);
        assert_memory_equal(one + SHORT - 1, many + SHORT - 1, (SUR_STEP_MAX + 1) * sizeof *one);
        b->session_destroy(s);
    }
}

static void test_row_bounds(void **state)
{
    (void)state;
    static const int64_t absent[] = {INT64_MIN, INT64_MIN + 1, -1, 65, INT32_MAX, INT64_MAX - SUR_ROW_RING, INT64_MAX};
    float *out = malloc((size_t)checkpoint->params.decoder.dim * sizeof *out);
    void *s = session(64, 0);
    encode(s, 0, 64);
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++) {
        assert_int_equal(b->rows(s, 0, absent[i], 1, out), SUR_ERR_ARGUMENT);
        assert_int_equal(b->rows(s, 0, absent[i], INT32_MAX, out), SUR_ERR_ARGUMENT);
    }
    assert_int_equal(b->rows(s, 0, 63, 1, out), SUR_OK);
    assert_int_equal(b->rows(s, 0, 64, 0, out), SUR_OK);
    b->session_destroy(s);
    free(out);
}

static void test_rewind(void **state)
{
    (void)state;
    reference(one, tokens);
    void *s = session(1, 0);
    for (int i = 0; i < PROMPT + STEPS; i++) encode(s, i, 1);
    assert_int_equal(step(s, PROMPT, tokens, 1, many + PROMPT - 1), SUR_OK);
    int32_t wrong[SUR_STEP_MAX] = {7, 7, 7, 7, 7, 7, 7, 7};
    struct sur_step_out ignored[SUR_STEP_MAX];
    for (int i = PROMPT; i + SUR_STEP_MAX <= PROMPT + STEPS; i += 5) { /* guesses that fail leave no trace */
        assert_int_equal(step(s, SUR_STEP_MAX, wrong, SUR_STEP_MAX, ignored), SUR_OK);
        assert_int_equal(b->rewind(s, i), SUR_OK);
        assert_int_equal(step(s, 5, tokens + i, 5, many + i), SUR_OK);
    }
    assert_memory_equal(one + PROMPT, many + PROMPT, 90 * sizeof *one);
    assert_int_equal(b->rewind(s, 0), SUR_ERR_ARGUMENT);
    assert_int_equal(b->rewind(s, 1 << 20), SUR_ERR_ARGUMENT);
    b->session_destroy(s);
}

/* A session whose rows are there ahead may begin a step before it is asked for: with other tokens than come out, and
 * behind a rewind, it still gives what one does that has a row at a time. */
static void test_ahead(void **state)
{
    (void)state;
    const size_t vocab = (size_t)checkpoint->params.vocab_size;
    float *logits = malloc(2 * vocab * sizeof *logits);
    void *ahead = session(64, 0), *behind = session(1, 0);
    for (int i = 0; i < PROMPT + STEPS; i += 64) encode(ahead, i, PROMPT + STEPS - i < 64 ? PROMPT + STEPS - i : 64);
    for (int i = 0, n = 0; i < PROMPT + STEPS; i++) {
        const int32_t other = 1 + i % 5, *token = i % 20 ? NULL : &other;
        if (n == i) encode(behind, n++, 1);
        assert_int_equal(step(ahead, 1, token, 1, many), SUR_OK);
        assert_int_equal(step(behind, 1, token, 1, one), SUR_OK);
        assert_memory_equal(many, one, sizeof *one);
        assert_int_equal(b->logits(ahead, logits), SUR_OK);
        assert_int_equal(b->logits(behind, logits + vocab), SUR_OK);
        assert_memory_equal(logits, logits + vocab, vocab * sizeof *logits);
        if (i != 30) continue;
        assert_int_equal(b->rewind(ahead, 28), SUR_OK);
        assert_int_equal(b->rewind(behind, 28), SUR_OK);
        for (int j = 28; j <= 30; j++) {
            assert_int_equal(step(ahead, 1, tokens + j, 1, many), SUR_OK);
            assert_int_equal(step(behind, 1, tokens + j, 1, one), SUR_OK);
            assert_memory_equal(many, one, sizeof *one);
        }
    }
    b->session_destroy(ahead);
    b->session_destroy(behind);
    free(logits);
}

static void test_jobs_and_rows(void **state)
{
    (void)state;
    reference(one, tokens);
    size_t dim = (size_t)checkpoint->params.decoder.dim;
    float *rows = malloc(SUR_ROW_RING * dim * sizeof *rows);
    void *s[2] = {session(1, 0), session(1, 0)};
    for (int i = 0; i < PROMPT + STEPS; i++) { /* the second session takes the first one's rows */
        encode(s[0], i, 1);
        assert_int_equal(b->rows(s[0], 0, i, 1, rows), SUR_OK);
        assert_int_equal(b->rows(s[1], 1, i, 1, rows), SUR_OK);
        struct sur_step_out out[2];
        struct sur_step_job jobs[2] = {{s[0], 1, tokens + i, 1, out}, {s[1], 1, tokens + i, 1, out + 1}};
        assert_int_equal(b->step(jobs, 2), SUR_OK);
        assert_memory_equal(&out[0], &one[i], sizeof *one);
        assert_memory_equal(&out[1], &one[i], sizeof *one);
    }
    assert_int_equal(b->rows(s[1], 1, 5, 1, rows), SUR_ERR_ARGUMENT); /* rows come in order */
    assert_int_equal(b->rows(s[0], 0, PROMPT + STEPS, 1, rows), SUR_ERR_ARGUMENT);
    for (int i = 0; i < 2; i++) { /* a reset session starts anew */
        assert_int_equal(b->reset(s[0]), SUR_OK);
        encode(s[0], 0, 1);
        assert_int_equal(step(s[0], 1, tokens, 1, many), SUR_OK);
        assert_memory_equal(many, one, sizeof *one);
    }
    b->session_destroy(s[0]);
    b->session_destroy(s[1]);
    free(rows);
}

/* Sessions of one delay share its norms: in any order of creating and destroying, each has those of its own delay. */
static void test_delays(void **state)
{
    (void)state;
    static const int delays[] = {6, 30, 6, 1, 30};
    enum { N = sizeof delays / sizeof *delays };
    struct sur_step_out out[2][N];
    void *s[N];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N; i++)
            s[i] =
                create(&(struct sur_backend_session_options){.delay = delays[i], .n_prompt = PROMPT, .max_tokens = 1});
        if (round) b->session_destroy(s[0]);
        for (int i = round; i < N; i++) {
            encode(s[i], 0, 1);
            assert_int_equal(step(s[i], 1, tokens, 1, &out[round][i]), SUR_OK);
            b->session_destroy(s[i]);
        }
    }
    assert_memory_equal(&out[0][0], &out[0][2], sizeof **out);
    assert_memory_equal(&out[0][1], &out[0][4], sizeof **out);
    assert_memory_equal(&out[0][1], &out[1][1], (N - 1) * sizeof **out);
    assert_memory_not_equal(&out[0][0].top, &out[0][1].top, sizeof out[0][0].top);
    assert_memory_not_equal(&out[0][0].top, &out[0][3].top, sizeof out[0][0].top);
}

/* A job that cannot run says so, and the one beside it runs. */
static void test_job_status(void **state)
{
    (void)state;
    struct sur_step_out out[3];
    int32_t bad = -1;
    reference(one, tokens);
    void *full = session(64, 0), *s = session(1, 0), *empty = session(1, 0);
    for (int i = 0; i < SUR_ROW_RING / 64; i++) encode(full, 0, 64);
    struct sur_encode_job e[] = {{full, 1, mel, 7}, {empty, 2, mel, 7}, {s, 1, mel, 7}};
    assert_int_equal(b->encode(e, 3), SUR_AGAIN); /* the first that is not SUR_OK */
    assert_int_equal(e[0].status, SUR_AGAIN);
    assert_int_equal(e[1].status, SUR_ERR_ARGUMENT);
    assert_int_equal(e[2].status, SUR_OK);
    struct sur_step_job j[] = {
        {empty, 1, tokens, 1, out, 7}, {full, 1, &bad, 1, out + 1, 7}, {s, 1, tokens, 1, out + 2, 7}};
    assert_int_equal(b->step(j, 3), SUR_AGAIN);
    assert_int_equal(j[0].status, SUR_AGAIN);
    assert_int_equal(j[1].status, SUR_ERR_ARGUMENT);
    assert_int_equal(j[2].status, SUR_OK);
    assert_memory_equal(out + 2, one, sizeof *one);
    assert_int_equal(b->step(j + 2, 1), SUR_AGAIN); /* its row has been stepped */
    encode(empty, 0, 1);                            /* and those that were refused are as before */
    assert_int_equal(b->step(j, 1), SUR_OK);
    assert_int_equal(j[0].status, SUR_OK);
    assert_memory_equal(out, one, sizeof *one);
    b->session_destroy(full);
    b->session_destroy(s);
    b->session_destroy(empty);
}

static void test_edges(void **state)
{
    (void)state;
    void *s = session(64, 0);
    struct sur_step_out out;
    int32_t token = 1, bad = checkpoint->params.vocab_size;
    float *logits = malloc((size_t)bad * sizeof *logits);
    assert_int_equal(step(s, 1, &token, 1, &out), SUR_AGAIN); /* no rows yet */
    assert_int_equal(b->logits(s, logits), SUR_ERR_ARGUMENT);
    for (int i = 0; i < SUR_ROW_RING / 64; i++) encode(s, 0, 64);
    struct sur_encode_job job = {s, 1, mel};
    assert_int_equal(b->encode(&job, 1), SUR_AGAIN); /* SUR_ROW_RING rows wait */
    job.n_tokens = 65;
    assert_int_equal(b->encode(&job, 1), SUR_ERR_ARGUMENT);
    assert_int_equal(step(s, 1, &bad, 1, &out), SUR_ERR_ARGUMENT);
    assert_int_equal(step(s, PROMPT + 1, tokens, 1, &out), SUR_ERR_ARGUMENT);
    assert_int_equal(step(s, PROMPT, tokens, 0, NULL), SUR_OK);
    assert_int_equal(step(s, 9, tokens, 1, &out), SUR_ERR_ARGUMENT); /* only the prompt is wide */
    assert_int_equal(step(s, 1, &token, 1, &out), SUR_OK);
    assert_int_equal(step(s, 1, NULL, 1, &out), SUR_OK); /* its own last token */
    assert_true(out.margin >= 0 && out.top[0] >= out.top[1] && out.top[2] >= out.top[3]);
    assert_int_equal(b->logits(s, logits), SUR_OK);
    assert_float_equal(logits[out.id], out.top[0], 0);
    free(logits);
    b->session_destroy(s);
    b->session_destroy(NULL);
}

enum { FAR = 128 };

static void one_by_one(int64_t start, struct sur_step_out *out)
{
    void *s = session(1, start);
    for (int i = 0; i < FAR; i++) {
        encode(s, i, 1);
        assert_int_equal(step(s, 1, tokens + i, 1, out + i), SUR_OK);
        assert_true(isfinite(out[i].margin));
    }
    b->session_destroy(s);
}

/* As the CPU has it. The bound of docs/model.md holds for each of the two. */
static void near_the_cpu(int64_t start)
{
    static const float bound = 2 * 2e-3f;
    static struct sur_step_out of_cpu[FAR];
    const struct sur_backend *own = b;
    void *own_state = state_;
    b = &sur_backend_cpu;
    state_ = cpu;
    one_by_one(start, of_cpu);
    b = own;
    state_ = own_state;
    for (int i = 0; i < FAR; i++) {
        if (of_cpu[i].margin > bound) assert_int_equal(one[i].id, of_cpu[i].id);
        for (int j = 0; j < SUR_TOP; j++) assert_true(fabsf(one[i].top[j] - of_cpu[i].top[j]) <= bound);
    }
}

/* The decoder's positions past 131,072 and the encoder's past four times that, then past 2^31: columns still change no
 * bit, and nothing overflows. */
static void test_far(void **state)
{
    (void)state;
    static const int64_t starts[] = {131000, ((int64_t)1 << 31) - 10, (int64_t)1 << 36};
    for (int f = 0; f < 3; f++) {
        void *t = session(64, starts[f]);
        one_by_one(starts[f], one);
        for (int i = 0; i < FAR; i += 64) encode(t, i, 64);
        assert_int_equal(step(t, 8, tokens, 8, many), SUR_OK);
        for (int i = 8; i < FAR; i += 4) assert_int_equal(step(t, 4, tokens + i, 4, many + i), SUR_OK);
        assert_memory_equal(one, many, FAR * sizeof *one);
        b->session_destroy(t);
        if (cpu) near_the_cpu(starts[f]);
    }
}

int main(int argc, char **argv)
{
    bool cuda = argc == 3 && !strcmp(argv[2], "cuda");
    if (argc != 2 + cuda) return fprintf(stderr, "usage: test_backend MODEL [cuda]\n"), 2;
    struct sur_model_options o = {.threads = 2, .gpu = -1};
    if (cuda && sur_backend_choose(&b, SUR_BACKEND_CUDA)) return printf("%s\n", sur_error_text()), 77;
    if (sur_checkpoint_open(&checkpoint, argv[1]) || b->open(&state_, checkpoint, &o) ||
        (cuda && sur_backend_cpu.open(&cpu, checkpoint, &o)))
        return fprintf(stderr, "%s\n", sur_error_text()), 1;
    size_t n = (size_t)(PROMPT + STEPS) * SUR_TOKEN_FRAMES * (size_t)checkpoint->params.n_mels;
    mel = malloc(n * sizeof *mel);
    uint32_t x = 5;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        mel[i] = (float)(int32_t)x * 0x1p-31f;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_columns),      cmocka_unit_test(test_rewind),
                                       cmocka_unit_test(test_short_prompt), cmocka_unit_test(test_row_bounds),
                                       cmocka_unit_test(test_ahead),        cmocka_unit_test(test_jobs_and_rows),
                                       cmocka_unit_test(test_delays),       cmocka_unit_test(test_job_status),
                                       cmocka_unit_test(test_edges),        cmocka_unit_test(test_far)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    b->close(state_);
    if (cpu) sur_backend_cpu.close(cpu);
    sur_checkpoint_close(&checkpoint);
    free(mel);
    return failed;
}
