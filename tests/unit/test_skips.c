/* Skips and flushes of a session, through its public interface: the clock is right with any number of them. Arguments:
 * session_play.h. */
#include "session_play.h"

static struct heard want, got;

static void test_skip(void **state)
{
    (void)state;
    memset(&got, 0, sizeof got);
    struct sur_model *m = open_model(1);
    struct sur_session *s = open_session(m, SUR_LIVE, 48000);
    listen(&want, 1, SUR_LIVE, 48000, 30000, 0);
    assert_int_equal(sur_session_feed(s, clip, 15000), 15000); /* 5000 samples at 16 kHz */
    assert_int_equal(sur_session_skip(s, 32000, SUR_SKIP_LAG), SUR_OK);
    assert_int_equal(sur_session_feed(s, clip + 15000, 15000), 15000);
    sur_session_finish(s);
    run_all(s, &got);
    assert_int_equal(got.n_skips, 1);
    assert_int_equal(got.skips[0].t0, 5000);
    assert_int_equal(got.skips[0].t1, 37000);
    assert_int_equal(got.skips[0].why, SUR_SKIP_LAG);
    assert_int_equal(got.end.t1, 42000);
    assert_int_equal(got.end.skipped, 32000);
    assert_int_equal(got.n, want.n);
    for (int i = 0; i < got.n; i++) { /* no seam in the sound; the clock has advanced */
        assert_int_equal(got.tokens[i].id, want.tokens[i].id);
        assert_int_equal(got.tokens[i].t1 - want.tokens[i].t1, want.tokens[i].t1 > 5000 ? 32000 : 0);
    }
    int full = SUR_OK;
    for (int i = 0; i < 100 && full == SUR_OK; i++) full = sur_session_skip(s, 1, SUR_SKIP_GAP);
    assert_int_equal(full, SUR_AGAIN);
    assert_int_equal(sur_session_skip(s, -1, SUR_SKIP_GAP), SUR_ERR_ARGUMENT);
    sur_session_destroy(&s);
    sur_model_close(&m);
}

/* Skips at one place and close together: each where it lies, in order, and nothing said lies inside one (collect). */
static void test_skips_together(void **state)
{
    (void)state;
    static const struct {
        int at, n; /* samples */
        enum sur_skip_reason why;
    } skips[] = {{16000, 48000, SUR_SKIP_LAG}, {16000, 80000, SUR_SKIP_GAP}, {16000, 8, SUR_SKIP_DEVICE},
                 {16500, 640, SUR_SKIP_GAP},   {16501, 1, SUR_SKIP_LAG},     {18000, 32000, SUR_SKIP_GAP}};
    enum { N = sizeof skips / sizeof *skips };
    listen(&want, 1, SUR_LIVE, 16000, 40000, 0);
    struct sur_model *m = open_model(1);
    struct sur_session *s = open_session(m, SUR_LIVE, 16000);
    memset(&got, 0, sizeof got);
    int at = 0, sum = 0;
    for (int i = 0; i < N; i++) {
        assert_int_equal(sur_session_feed(s, clip + at, (size_t)(skips[i].at - at)), skips[i].at - at);
        at = skips[i].at;
        assert_int_equal(sur_session_skip(s, skips[i].n, skips[i].why), SUR_OK);
    }
    sur_session_feed(s, clip + at, (size_t)(40000 - at));
    sur_session_finish(s);
    run_all(s, &got);
    assert_int_equal(got.n_skips, N);
    for (int i = 0; i < N; i++) {
        assert_int_equal(got.skips[i].t0, skips[i].at + sum);
        sum += skips[i].n;
        assert_int_equal(got.skips[i].t1, skips[i].at + sum);
        assert_int_equal(got.skips[i].why, skips[i].why);
    }
    assert_int_equal(got.end.t1, 40000 + sum);
    assert_int_equal(got.end.skipped, sum);
    assert_int_equal(got.n, want.n);
    for (int i = 0; i < got.n; i++) {
        int before = 0;
        for (int k = 0; k < N; k++) before += skips[k].at < want.tokens[i].t1 ? skips[k].n : 0;
        assert_int_equal(got.tokens[i].id, want.tokens[i].id);
        assert_int_equal(got.tokens[i].t1 - want.tokens[i].t1, before);
    }
    sur_session_destroy(&s);
    /* many, a few for each step */
    s = open_session(m, SUR_LIVE, 16000);
    memset(&got, 0, sizeof got);
    for (int i = 0; i < MAX_SKIPS; i++) {
        sur_session_feed(s, clip + i * 200, 200);
        assert_int_equal(sur_session_skip(s, 10, SUR_SKIP_GAP), SUR_OK);
        assert_int_equal(run_all(s, &got), SUR_AGAIN);
    }
    sur_session_finish(s);
    assert_int_equal(run_all(s, &got), SUR_END);
    assert_int_equal(got.n_skips, MAX_SKIPS);
    assert_int_equal(got.end.t1, MAX_SKIPS * 210);
    sur_session_destroy(&s);
    sur_model_close(&m);
}

static void flush(struct sur_session *s, struct heard *h)
{
    while (sur_session_flush(s) == SUR_AGAIN) assert_int_equal(run_all(s, h), SUR_AGAIN);
    assert_int_equal(run_all(s, h), SUR_AGAIN);
}

/* skip -1: none. Returns how long the silence was. */
static int64_t flushed(struct heard *h, struct sur_model *m, int rate, int buffer_ms, int64_t skip, bool more)
{
    struct sur_session_options o;
    struct sur_session *s = NULL;
    struct sur_session_stats stats;
    sur_session_options_init(&o);
    o.rate = rate;
    o.buffer_ms = buffer_ms;
    assert_int_equal(sur_session_create(&s, m, &o), SUR_OK);
    memset(h, 0, sizeof *h);
    flush(s, h); /* before the first sample: nothing */
    for (size_t i = 0; i < 20000; run_all(s, h)) i += sur_session_feed(s, clip + i, 20000 - i);
    flush(s, h);
    int n = h->n;
    flush(s, h); /* once a pause */
    assert_int_equal(h->n, n);
    assert_int_equal(h->n_skips, 0);
    for (int i = 0; i < n; i++) assert_true(h->tokens[i].t1 <= (20000 * (int64_t)16000 + rate - 1) / rate);
    sur_session_get_stats(s, &stats);
    if (skip >= 0) assert_int_equal(sur_session_skip(s, skip, SUR_SKIP_DEVICE), SUR_OK);
    for (size_t i = 20000; more && i < 40000; run_all(s, h)) i += sur_session_feed(s, clip + i, 40000 - i);
    if (!more) sur_session_get_stats(s, &stats);
    sur_session_finish(s);
    assert_int_equal(sur_session_flush(s), SUR_OK);
    assert_int_equal(run_all(s, h), SUR_END);
    sur_session_destroy(&s);
    return stats.silence_samples;
}

static void test_flush(void **state)
{
    (void)state;
    static const struct {
        int rate, buffer_ms;
    } kinds[] = {{16000, 0}, {48000, 0}, {16000, 100}, {11025, 0}};
    struct sur_model *m = open_model(1);
    for (int i = 0; i < 4; i++) {
        int rate = kinds[i].rate;
        int64_t at = 20000LL * 16000 / rate;
        listen(&want, 1, SUR_LIVE, rate, 20000, 0);
        /* The stream ends while it stands still: as if it had ended before. */
        int64_t silence = flushed(&got, m, rate, kinds[i].buffer_ms, -1, false);
        assert_int_equal(got.n_skips, 0);
        assert_int_equal(got.end.t1, at);
        assert_int_equal(got.end.skipped, 0);
        assert_true(got.n >= want.n);
        for (int k = 0; k < want.n && rate == 16000; k++) assert_int_equal(got.tokens[k].id, want.tokens[k].id);
        /* It goes on. */
        static const struct {
            int64_t skip;
            enum sur_skip_reason why;
        } on[] = {{-1, SUR_SKIP_GAP}, {100000, SUR_SKIP_DEVICE}, {10, SUR_SKIP_DEVICE}};
        for (int k = 0; k < 3; k++) {
            assert_int_equal(flushed(&got, m, rate, kinds[i].buffer_ms, on[k].skip, true), silence);
            int64_t length = on[k].skip > silence ? on[k].skip : silence;
            assert_int_equal(got.n_skips, 1);
            assert_int_equal(got.skips[0].t0, at);
            assert_int_equal(got.skips[0].t1, at + length);
            assert_int_equal(got.skips[0].why, on[k].why);
            assert_in_range(got.end.t1, 2 * at + length - 1, 2 * at + length + 1);
            assert_int_equal(got.end.skipped, length);
        }
    }
    assert_int_equal(sur_session_flush(NULL), SUR_ERR_ARGUMENT);
    struct sur_session *s = open_session(m, SUR_WHOLE, 16000);
    assert_int_equal(sur_session_flush(s), SUR_ERR_ARGUMENT);
    sur_session_destroy(&s);
    sur_model_close(&m);
}

/* All steps that the end would bring come out, and two pauses in a row are two skips. */
static void test_flush_twice(void **state)
{
    (void)state;
    struct sur_model *m = open_model(1);
    struct sur_session *s = open_session(m, SUR_LIVE, 16000);
    memset(&got, 0, sizeof got);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(sur_session_feed(s, clip, 10000), 10000);
        run_all(s, &got);
        flush(s, &got);
        assert_true(got.n >= i * 10000 / 1280 + 11);
    }
    sur_session_finish(s);
    assert_int_equal(run_all(s, &got), SUR_END);
    assert_int_equal(got.n_skips, 2); /* nothing followed the third */
    assert_int_equal(got.skips[1].t0, got.skips[0].t1 + 10000);
    assert_int_equal(got.end.t1, got.skips[1].t1 + 10000);
    sur_session_destroy(&s);
    sur_model_close(&m);
}

int main(int argc, char **argv)
{
    int status = set_up(argc, argv, "test_skips");
    if (status >= 0) return status;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_skip), cmocka_unit_test(test_skips_together),
                                       cmocka_unit_test(test_flush), cmocka_unit_test(test_flush_twice)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
