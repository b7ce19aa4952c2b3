/* What the tests of sessions share: a sound, a session that is fed and polled, and what was heard. `set_up` comes
 * first; arguments of such a test: a tiny model's folder, and "cuda" for that backend. */
#ifndef SESSION_PLAY_H
#define SESSION_PLAY_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "surtitle.h"

enum { CLIP = 50001, MAX_STEPS = 400, MAX_SKIPS = 200 };
static const char *folder;
static enum sur_backend_kind backend = SUR_BACKEND_CPU;
static int16_t clip[CLIP];

struct token {
    int64_t step, t0, t1;
    int32_t id;
    float margin;
};
struct heard {
    int n, n_groups, n_skips;
    struct token tokens[MAX_STEPS];
    struct sur_event end, skips[MAX_SKIPS];
    int64_t told, skipped_to; /* how far groups and skips have told the clock, and skips alone */
};

/* A chirp that comes and goes, over noise: no two frames alike. */
static void make_clip(void)
{
    uint32_t x = 7;
    for (int i = 0; i < CLIP; i++) {
        double t = i / 16000.0;
        x = x * 1664525u + 1013904223u;
        clip[i] =
            (int16_t)(6000 * sin(6.2831853 * (200 + 900 * t) * t) * (sin(3 * t) > 0) + (double)((int32_t)x >> 22));
    }
}

static struct sur_model *open_model(int threads)
{
    struct sur_model_options o;
    struct sur_model *m = NULL;
    sur_model_options_init(&o);
    o.dir = folder;
    o.threads = threads;
    o.backend = backend;
    if (sur_model_open(&m, &o)) fail_msg("%s", sur_error_text());
    return m;
}

static struct sur_session *open_session(struct sur_model *m, enum sur_session_mode mode, int rate)
{
    struct sur_session_options o;
    struct sur_session *s = NULL;
    sur_session_options_init(&o);
    o.mode = mode;
    o.rate = rate;
    if (sur_session_create(&s, m, &o)) fail_msg("%s", sur_error_text());
    return s;
}

static void collect(struct sur_session *s, struct heard *h)
{
    struct sur_event e;
    while (sur_session_poll(s, &e) == SUR_OK) {
        assert_int_equal(h->end.type, SUR_EVENT_TOKEN); /* nothing follows the end */
        if (e.type == SUR_EVENT_TOKEN) {
            assert_true(h->n < MAX_STEPS);
            assert_int_equal(e.step, h->n);
            h->tokens[h->n++] = (struct token){e.step, e.t0, e.t1, e.id, e.margin};
            assert_true(e.t0 <= e.t1 && e.t0 >= h->skipped_to);
        } else if (e.type == SUR_EVENT_GROUP) {
            assert_true(e.t0 <= e.t1 && e.text[0] && e.t0 >= h->told);
            h->told = e.t1;
            h->n_groups++;
        } else if (e.type == SUR_EVENT_SKIP) {
            assert_true(e.t0 <= e.t1 && e.t0 >= h->told);
            h->told = h->skipped_to = e.t1; /* nothing that comes later was before it */
            assert_true(h->n_skips < MAX_SKIPS);
            h->skips[h->n_skips++] = e;
        } else {
            assert_true(e.t1 >= h->skipped_to);
            h->end = e;
        }
    }
}

static int run_all(struct sur_session *s, struct heard *h)
{
    int r;
    while ((r = sur_session_run(s)) == SUR_OK) collect(s, h);
    collect(s, h);
    return r;
}

/* piece 0: random pieces. */
static void feed_all(struct sur_session *s, struct heard *h, size_t n, size_t piece)
{
    uint32_t x = 99;
    for (size_t i = 0; i < n;) {
        x = x * 1664525u + 1013904223u;
        size_t want = piece ? piece : 1 + (x >> 16) % 5000;
        i += sur_session_feed(s, clip + i, want < n - i ? want : n - i);
        assert_true(run_all(s, h) == SUR_AGAIN);
    }
    sur_session_finish(s);
    assert_int_equal(sur_session_feed(s, clip, 1), 0);
    assert_int_equal(run_all(s, h), SUR_END);
    assert_int_equal(h->end.type, SUR_EVENT_END);
}

static void listen(struct heard *h, int threads, enum sur_session_mode mode, int rate, size_t n, size_t piece)
{
    memset(h, 0, sizeof *h);
    struct sur_model *m = open_model(threads);
    struct sur_session *s = open_session(m, mode, rate);
    feed_all(s, h, n, piece);
    sur_session_destroy(&s);
    assert_null(s);
    sur_model_close(&m);
    assert_null(m);
}

/* The status to exit with, or -1: run the tests. */
static int set_up(int argc, char **argv, const char *name)
{
    bool cuda = argc == 3 && !strcmp(argv[2], "cuda");
    if (argc != 2 + cuda) return fprintf(stderr, "usage: %s MODEL [cuda]\n", name), 2;
    folder = argv[1];
    if (cuda) {
        struct sur_model *m = NULL;
        struct sur_model_options o;
        sur_model_options_init(&o);
        o.dir = folder;
        o.backend = backend = SUR_BACKEND_CUDA;
        if (sur_model_open(&m, &o)) return printf("%s\n", sur_error_text()), 77;
        sur_model_close(&m);
    }
    make_clip();
    return -1;
}

#endif
