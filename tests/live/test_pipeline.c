/* The threads of a live run on a source of noise (argument: a tiny model): at 50 times the speed of speech the same
 * tokens as in one thread; a consumer that stalls causes skips, and no time is lost. Also run under ThreadSanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "cli/live.h"
#include "cli/os_signal.h"
#include "util/clock.h"

enum { RATE = 48000, SECONDS = 20, N = RATE * SECONDS, MAX_STEPS = 1000, FRAMES = 4096, SLOW_MS = 300 };
static const char *folder;

struct noise {
    size_t at, end, slow_at; /* slow_at: the read at this frame returns SLOW_MS late, once; 0: never */
    uint32_t x;
};

struct heard {
    int n, skips;
    int32_t ids[MAX_STEPS];
    float margins[MAX_STEPS];
    struct sur_event end;
};

static size_t make_noise(struct noise *s, float *frames, size_t max)
{
    size_t n = s->end - s->at < max ? s->end - s->at : max;
    for (size_t i = 0; i < n; i++) {
        s->x = s->x * 1664525u + 1013904223u;
        frames[i] = (float)(int32_t)s->x / 4294967296.0f;
    }
    s->at += n;
    return n;
}

static void pass_time(int ms)
{
    int64_t until = sur_clock_ns() + (int64_t)ms * 1000000;
    while (sur_clock_ns() < until) sur_clock_sleep_until(until);
}

static ptrdiff_t read_noise(struct source *source, float *frames, size_t max)
{
    struct noise *s = source->state;
    if (s->slow_at > 0 && s->at >= s->slow_at) {
        s->slow_at = 0;
        pass_time(SLOW_MS);
    }
    return (ptrdiff_t)make_noise(s, frames, max);
}

static struct sur_model *open_model(void)
{
    struct sur_model_options o;
    struct sur_model *m = NULL;
    sur_model_options_init(&o);
    o.dir = folder;
    o.threads = 1;
    o.backend = SUR_BACKEND_CPU;
    if (sur_model_open(&m, &o)) fail_msg("%s", sur_error_text());
    return m;
}

static struct sur_session *open_session(struct sur_model *m)
{
    struct sur_session_options o;
    struct sur_session *s = NULL;
    sur_session_options_init(&o);
    o.rate = RATE;
    o.format = SUR_F32LE;
    o.resampler = SUR_RESAMPLE_SPEEX;
    if (sur_session_create(&s, m, &o)) fail_msg("%s", sur_error_text());
    return s;
}

static void collect(struct sur_session *s, struct heard *h)
{
    struct sur_event e;
    while (sur_session_poll(s, &e) == SUR_OK) {
        if (e.type == SUR_EVENT_TOKEN) {
            assert_true(h->n < MAX_STEPS);
            h->ids[h->n] = e.id;
            h->margins[h->n++] = e.margin;
        }
        if (e.type == SUR_EVENT_SKIP) h->skips++;
        if (e.type == SUR_EVENT_END) h->end = e;
    }
}

static void in_one_thread(struct sur_model *m, struct heard *h)
{
    static float frames[FRAMES];
    struct noise noise = {.end = N, .x = 5};
    struct sur_session *s = open_session(m);
    memset(h, 0, sizeof *h);
    for (size_t n; (n = make_noise(&noise, frames, FRAMES)) > 0;) {
        assert_int_equal(sur_session_feed(s, frames, n), n);
        while (sur_session_run(s) == SUR_OK) collect(s, h);
    }
    sur_session_finish(s);
    while (sur_session_run(s) == SUR_OK) collect(s, h);
    collect(s, h);
    sur_session_destroy(&s);
}

/* stall_ms: how long the consumer stops after step 30; slow_at: see struct noise. */
static void in_threads(struct sur_model *m, struct heard *h, struct live *l, double pace, double max_lag, int stall_ms,
                       size_t slow_at)
{
    static float frames[FRAMES];
    struct noise noise = {.end = N, .x = 5, .slow_at = slow_at};
    struct source source = {.rate = RATE, .channels = 1, .read = read_noise, .state = &noise};
    struct sur_session *s = open_session(m);
    memset(h, 0, sizeof *h);
    memset(l, 0, sizeof *l);
    l->encoder.session = s;
    assert_int_equal(capture_create(&l->encoder.capture, RATE, max_lag + 10), 0);
    l->encoder.rate = RATE;
    l->reader.source = &source;
    struct downmix mix;
    downmix_init(&mix, RATE, 1, 0);
    l->reader.mix = &mix;
    l->reader.frames = frames;
    l->reader.max_frames = FRAMES;
    l->reader.n_frames = make_noise(&noise, frames, FRAMES);
    l->reader.pace = pace;
    l->encoder.max_lag = max_lag;
    assert_int_equal(live_start(l), SUR_OK);
    int status;
    while ((status = live_decode(l)) != SUR_END) {
        collect(s, h);
        if (status == SUR_OK) live_note_written(l);
        if (status == SUR_AGAIN) live_wait(l, 100000000);
        if (status != SUR_OK && status != SUR_AGAIN) fail_msg("%s", live_error(l));
        if (h->n == 30 && stall_ms > 0) {
            pass_time(stall_ms);
            stall_ms = 0;
        }
    }
    collect(s, h);
    live_finish(l);
    capture_destroy(&l->encoder.capture);
    sur_session_destroy(&s);
}

static struct heard want, got;
static struct live live;

static void test_same_tokens(void **state)
{
    (void)state;
    struct sur_model *m = open_model();
    in_one_thread(m, &want);
    assert_true(want.n > 200);
    static const double paces[] = {50, 0}; /* 0: as fast as possible, so that the reader waits for room */
    for (int i = 0; i < 2; i++) {
        in_threads(m, &got, &live, paces[i], 0, i ? 0 : 100, 0);
        assert_int_equal(got.skips, 0);
        assert_int_equal(got.n, want.n);
        assert_memory_equal(got.ids, want.ids, sizeof want.ids);
        assert_memory_equal(got.margins, want.margins, sizeof want.margins);
        assert_int_equal(got.end.t1, SECONDS * SUR_RATE);
        assert_true(live.latency.steps + live.latency.startup_steps > 150); /* all but the tail */
    }
    sur_model_close(&m);
}

static void test_stalled_consumer(void **state)
{
    (void)state;
    struct sur_model *m = open_model();
    in_threads(m, &got, &live, 10, 2, 800, 0); /* 8 s of sound arrive during the stall */
    assert_true(got.skips >= 1 && live.encoder.n_lag_skips == got.skips);
    assert_in_range(got.end.t1, SECONDS * SUR_RATE - 1, SECONDS * SUR_RATE + 1); /* the clock has advanced */
    assert_true(got.end.skipped > SUR_RATE && got.end.skipped < 16 * SUR_RATE);
    assert_true(got.n < want.n);
    sur_model_close(&m);
}

/* Added latency begins when the samples are due, not when a delayed reader returns them. */
static void test_slow_reader(void **state)
{
    (void)state;
    struct sur_model *m = open_model();
    in_threads(m, &got, &live, 10, 0, 0, N / 2);
    assert_int_equal(got.skips, 0);
    assert_true(live.latency.max_ns > (SLOW_MS - 100) * (int64_t)1000000);
    assert_true(live.latency.above_80_ms > 0);
#ifndef __SANITIZE_THREAD__ /* which is so slow that every step may be late, or of the start */
    assert_true(live.latency.steps > 150);
    assert_true(live.latency.above_80_ms < live.latency.steps);
#endif
    sur_model_close(&m);
}

static void test_abandoned(void **state)
{
    (void)state;
    struct sur_model *m = open_model();
    struct noise noise = {.end = (size_t)1 << 40, .x = 5};
    struct source source = {.rate = RATE, .channels = 1, .read = read_noise, .state = &noise};
    float frames[100];
    memset(&live, 0, sizeof live);
    live_finish(&live); /* never started */
    live.encoder.session = open_session(m);
    assert_int_equal(capture_create(&live.encoder.capture, RATE, 2), 0);
    live.encoder.rate = RATE;
    live.reader.source = &source;
    struct downmix mix;
    downmix_init(&mix, RATE, 1, 0);
    live.reader.mix = &mix;
    live.reader.frames = frames;
    live.reader.max_frames = 100;
    live.reader.n_frames = make_noise(&noise, frames, 100);
    assert_int_equal(live_start(&live), SUR_OK);
    sur_clock_sleep_until(sur_clock_ns() + 100000000); /* no thread decodes: every ring fills */
    live_finish(&live);
    capture_destroy(&live.encoder.capture);
    sur_session_destroy(&live.encoder.session);
    sur_model_close(&m);
}

int main(int argc, char **argv)
{
    if (argc != 2) return fprintf(stderr, "usage: test_pipeline MODEL\n"), 2;
    folder = argv[1];
    os_signal_install(); /* a reader that blocks is interrupted by a signal */
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_tokens), cmocka_unit_test(test_stalled_consumer),
                                       cmocka_unit_test(test_slow_reader), cmocka_unit_test(test_abandoned)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
