/* A session through its public interface, on a tiny random model: whatever the pieces, threads, mode and neighbours,
 * the same bits; and the edges of every call. Arguments: the model's folder, and "cuda" for that backend (77: it cannot
 * be used here). */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "model/schedule.h"
#include "session_play.h"

static struct heard want, got;

static void same(const struct heard *a, const struct heard *b)
{
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->n_groups, b->n_groups);
    for (int i = 0; i < a->n; i++) {
        assert_int_equal(a->tokens[i].id, b->tokens[i].id);
        assert_int_equal(a->tokens[i].t0, b->tokens[i].t0);
        assert_int_equal(a->tokens[i].t1, b->tokens[i].t1);
        assert_memory_equal(&a->tokens[i].margin, &b->tokens[i].margin, sizeof(float));
    }
}

static void test_same_bits(void **state)
{
    (void)state;
    static const int rates[] = {16000, 48000, 11025};
    for (int i = 0; i < 3; i++) {
        listen(&want, 1, SUR_LIVE, rates[i], CLIP, CLIP);
        assert_true(want.n > 10);
        listen(&got, 2, SUR_LIVE, rates[i], CLIP, 0);
        same(&want, &got);
        listen(&got, 2, SUR_WHOLE, rates[i], CLIP, 0);
        same(&want, &got);
        listen(&got, 1, SUR_WHOLE, rates[i], CLIP, CLIP);
        same(&want, &got);
    }
    listen(&want, 1, SUR_LIVE, 16000, 9000, 9000);
    listen(&got, 3, SUR_LIVE, 16000, 9000, 1);
    same(&want, &got);
}

static void test_lengths(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, 100, 1279, 1280, 1281, 40000};
    for (int i = 0; i < 7; i++)
        for (int mode = 0; mode < 2; mode++) {
            listen(&got, 1, (enum sur_session_mode)mode, 16000, lengths[i], 0);
            int64_t tokens = sur_schedule_tokens(32, 6, (int64_t)lengths[i]);
            assert_int_equal(got.n, tokens - sur_schedule_prompt(32, 6) + 1);
            assert_int_equal(got.end.step, got.n);
            assert_int_equal(got.end.t1, lengths[i]);
        }
}

static struct sur_session *shared;

static void *encode_thread(void *arg)
{
    (void)arg;
    int r;
    while ((r = sur_session_encode(shared, 1)) != SUR_END)
        if (r == SUR_AGAIN) sched_yield();
    return NULL;
}

static void *decode_thread(void *arg)
{
    int r;
    do {
        r = sur_session_decode(shared, 3);
        collect(shared, arg);
        if (r == SUR_AGAIN) sched_yield();
    } while (r != SUR_END);
    return NULL;
}

static void test_three_threads(void **state)
{
    (void)state;
    listen(&want, 1, SUR_LIVE, 16000, CLIP, CLIP);
    memset(&got, 0, sizeof got);
    struct sur_model *m = open_model(2);
    shared = open_session(m, SUR_LIVE, 16000);
    pthread_t encoder, decoder;
    assert_int_equal(pthread_create(&encoder, NULL, encode_thread, NULL), 0);
    assert_int_equal(pthread_create(&decoder, NULL, decode_thread, &got), 0);
    for (size_t i = 0; i < CLIP; i += sur_session_feed(shared, clip + i, CLIP - i < 333 ? CLIP - i : 333))
        sched_yield();
    sur_session_finish(shared);
    pthread_join(encoder, NULL);
    pthread_join(decoder, NULL);
    same(&want, &got);
    sur_session_destroy(&shared);
    sur_model_close(&m);
}

static void test_two_sessions(void **state)
{
    (void)state;
    listen(&want, 1, SUR_LIVE, 16000, 20000, 0);
    static struct heard a, b;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    struct sur_model *m = open_model(1), *kept = m;
    struct sur_session *s = open_session(m, SUR_LIVE, 16000), *t = open_session(m, SUR_WHOLE, 16000);
    for (size_t i = 0; i < 20000; i += 500) {
        assert_int_equal(sur_session_feed(s, clip + i, 500), 500);
        assert_int_equal(sur_session_feed(t, clip + i, 500), 500);
        run_all(s, &a);
        run_all(t, &b);
    }
    sur_session_finish(t);
    sur_session_finish(s);
    run_all(t, &b);
    run_all(s, &a);
    same(&want, &a);
    same(&want, &b);
    sur_session_destroy(&s);
    sur_model_close(&m); /* refused: t is open */
    assert_ptr_equal(m, kept);
    sur_session_destroy(&t);
    sur_model_close(&m);
    assert_null(m);
}

struct listener {
    struct sur_model *model;
    enum sur_session_mode mode;
    struct heard heard;
};

static void *listen_beside(void *arg)
{
    struct listener *l = arg;
    struct sur_session *s = open_session(l->model, l->mode, 16000);
    feed_all(s, &l->heard, CLIP, 0);
    sur_session_destroy(&s);
    return NULL;
}

/* Each in a thread of its own, at the same time. */
static void test_two_sessions_at_once(void **state)
{
    (void)state;
    static struct listener l[2];
    pthread_t threads[2];
    listen(&want, 1, SUR_LIVE, 16000, CLIP, 0);
    struct sur_model *m = open_model(2);
    for (int i = 0; i < 2; i++) {
        l[i] = (struct listener){.model = m, .mode = i ? SUR_WHOLE : SUR_LIVE};
        assert_int_equal(pthread_create(&threads[i], NULL, listen_beside, &l[i]), 0);
    }
    for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
    same(&want, &l[0].heard);
    same(&want, &l[1].heard);
    sur_model_close(&m);
    assert_null(m);
}

static bool readable(const struct sur_session *s)
{
    struct pollfd p = {.fd = sur_session_fd(s), .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

static void test_edges(void **state)
{
    (void)state;
    struct sur_model *m = open_model(1);
    struct sur_session_options o;
    struct sur_session *s = NULL;
    struct sur_event e;
    sur_session_options_init(&o);
    o.buffer_ms = 100;
    assert_int_equal(sur_session_create(&s, m, &o), SUR_OK);
    size_t taken = sur_session_feed(s, clip, CLIP); /* the ring is a power of two of at least 100 ms */
    assert_in_range(taken, 1600, 4096);
    assert_int_equal(sur_session_feed(s, clip, CLIP), 0);
    assert_false(readable(s));
    while (sur_session_run(s) == SUR_OK) {}
    assert_true(sur_session_feed(s, clip, CLIP) > 0);
    sur_session_finish(s);
    while (sur_session_run(s) == SUR_OK) {}
    assert_true(readable(s));
    while (sur_session_poll(s, &e) == SUR_OK)
        assert_true(e.type == SUR_EVENT_END || e.n_alternatives == SUR_TOP - 1 || e.type == SUR_EVENT_GROUP);
    assert_false(readable(s));
    struct sur_session_stats stats;
    sur_session_get_stats(s, &stats);
    assert_int_equal(stats.tokens_encoded, stats.steps + 38);
    sur_session_destroy(&s);

    s = open_session(m, SUR_LIVE, 16000);
    sur_session_stop(s);
    assert_int_equal(sur_session_run(s), SUR_STOPPED);
    sur_session_destroy(&s);
    sur_session_destroy(&s); /* NULL is fine */

    static const struct {
        int delay, rate, channels;
    } bad[] = {{81, 16000, 1}, {1280, 16000, 1}, {480, 999, 1}, {480, 16000, 0}, {480, 16000, 65}};
    for (int i = 0; i < 5; i++) {
        sur_session_options_init(&o);
        o.delay_ms = bad[i].delay;
        o.rate = bad[i].rate;
        o.channels = bad[i].channels;
        assert_int_equal(sur_session_create(&s, m, &o), SUR_ERR_ARGUMENT);
        assert_null(s);
        assert_true(strlen(sur_error_text()) > 10);
    }
    int32_t force[] = {0, 1 << 30};
    sur_session_options_init(&o);
    o.force = force;
    o.n_force = 2;
    assert_int_equal(sur_session_create(&s, m, &o), SUR_ERR_ARGUMENT);
    sur_model_close(&m);
}

static void test_force(void **state)
{
    (void)state;
    listen(&want, 1, SUR_LIVE, 16000, 20000, 0);
    int32_t own[MAX_STEPS], other[3] = {40, 50, 60};
    for (int i = 0; i < want.n; i++) own[i] = want.tokens[i].id;
    struct sur_model *m = open_model(1);
    for (int round = 0; round < 2; round++) {
        struct sur_session_options o;
        struct sur_session *s = NULL;
        sur_session_options_init(&o);
        o.force = round ? other : own;
        o.n_force = round ? 3 : (size_t)want.n;
        assert_int_equal(sur_session_create(&s, m, &o), SUR_OK);
        memset(&got, 0, sizeof got);
        feed_all(s, &got, 20000, 0);
        if (!round)
            same(&want, &got); /* its own tokens, forced, change nothing */
        else {                 /* the first step has seen none of them, the second one has */
            assert_true(got.tokens[0].margin == want.tokens[0].margin);
            assert_true(got.tokens[1].margin != want.tokens[1].margin);
        }
        sur_session_destroy(&s);
    }
    sur_model_close(&m);
}

static void test_float_and_channels(void **state)
{
    (void)state;
    enum { N = 10000 };
    static float stereo[2 * N];
    listen(&want, 1, SUR_LIVE, 16000, N, 0);
    for (int i = 0; i < N; i++) { /* the mean of left and right is the clip, exactly */
        stereo[2 * i] = (float)clip[i] / 32768 + 0.25f;
        stereo[2 * i + 1] = (float)clip[i] / 32768 - 0.25f;
    }
    struct sur_model *m = open_model(1);
    struct sur_session_options o;
    struct sur_session *s = NULL;
    sur_session_options_init(&o);
    o.channels = 2;
    o.format = SUR_F32LE;
    assert_int_equal(sur_session_create(&s, m, &o), SUR_OK);
    memset(&got, 0, sizeof got);
    assert_int_equal(sur_session_feed(s, stereo, N), N);
    sur_session_finish(s);
    run_all(s, &got);
    same(&want, &got);
    sur_session_destroy(&s);
    sur_model_close(&m);
}

int main(int argc, char **argv)
{
    int status = set_up(argc, argv, "test_session");
    if (status >= 0) return status;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_three_threads),
        cmocka_unit_test(test_two_sessions),
        cmocka_unit_test(test_two_sessions_at_once),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_force),
        cmocka_unit_test(test_float_and_channels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
