/* The lag policy and the capture ring, without threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "input/capture.h"
#include "cli/lag.h"

static void test_policy(void **state)
{
    (void)state;
    struct lag l = {.max_samples = 5 * SUR_RATE};
    /* captured before the start: processed, however much it is */
    struct lag_advice a = lag_look(&l, 100 * SUR_RATE);
    assert_false(a.warn || a.drop || l.begun);
    a = lag_look(&l, SUR_RATE - 1);
    assert_true(l.begun);
    assert_false(a.warn || a.drop);
    a = lag_look(&l, SUR_RATE);
    assert_true(a.warn && !a.drop);
    a = lag_look(&l, 5 * SUR_RATE); /* reported already, and within the limit */
    assert_false(a.warn || a.drop);
    a = lag_look(&l, 5 * SUR_RATE + 1);
    assert_int_equal(a.drop, 5 * SUR_RATE + 1 - SUR_RATE / 2);
    lag_look(&l, SUR_RATE / 2 + 1);
    assert_false(lag_look(&l, SUR_RATE).warn); /* the backlog was never down to half a second */
    lag_look(&l, SUR_RATE / 2);
    assert_true(lag_look(&l, SUR_RATE).warn);
    assert_int_equal(l.longest, 5 * SUR_RATE + 1);
    l = (struct lag){0}; /* a pipe: nothing is dropped or reported */
    lag_look(&l, 0);
    a = lag_look(&l, 100 * SUR_RATE);
    assert_false(a.warn || a.drop);
}

static double first_steps(double ms, double piled_ms)
{
    struct lag_speed s = {0};
    double slow = 0;
    for (int i = 1; i <= 30; i++) {
        double now = lag_too_slow(&s, i, (int64_t)(piled_ms * i * 16), (int64_t)(ms * i * 1e6));
        if (now > 0) assert_true(slow == 0); /* once */
        if (now > 0) slow = now;
    }
    return slow;
}

static void test_too_slow(void **state)
{
    (void)state;
    assert_true(first_steps(80, 0) == 0);
    assert_true(first_steps(20, -60) == 0); /* processes a backlog */
    assert_true(first_steps(200, 0) == 0);  /* a source that pauses */
    double ms = first_steps(130, 50);
    assert_true(ms > 129.9 && ms < 130.1);
}

static void test_capture(void **state)
{
    (void)state;
    struct capture *c = NULL;
    struct capture_piece p;
    float block[2000];
    struct downmix mono, stereo;
    downmix_init(&mono, 1000, 1, 0);
    downmix_init(&stereo, 1000, 2, 0);
    assert_int_equal(capture_create(&c, 1000, 1), 0); /* 1024 samples */
    for (int i = 0; i < 2000; i++) block[i] = (float)i;
    assert_false(capture_peek(c, &p));
    assert_true(capture_put(c, &mono, block, 100, 7));
    capture_lose(c, SUR_SKIP_GAP, 30);
    capture_lose(c, SUR_SKIP_DEVICE, 4);
    assert_true(capture_put(c, &stereo, block, 400, 8));
    assert_false(capture_put(c, &mono, block, 525, 9)); /* no room: all or nothing */
    assert_int_equal(capture_waiting(c), 500);
    assert_true(capture_peek(c, &p));
    assert_int_equal(p.n, 100);
    assert_int_equal(p.entry_ns, 7);
    assert_int_equal(p.lost[0] + p.lost[1] + p.lost[2], 0);
    capture_take(c, 100);
    assert_true(capture_peek(c, &p));
    assert_int_equal(p.n, 400);
    assert_int_equal(p.lost[SUR_SKIP_GAP], 30);
    assert_int_equal(p.lost[SUR_SKIP_DEVICE], 4);
    assert_true(p.samples[3] == 6.5f); /* the mean of 6 and 7 */
    capture_take(c, 1);
    assert_true(capture_peek(c, &p));
    assert_int_equal(p.n, 399);
    assert_int_equal(p.lost[0] + p.lost[1] + p.lost[2], 0); /* reported once */
    capture_take(c, 399);
    capture_end(c);
    assert_true(capture_ended(c));
    assert_int_equal(capture_lost(c), 34);
    /* across the ring's end: a block in two pieces */
    assert_true(capture_put(c, &mono, block, 1000, 10));
    assert_false(capture_ended(c));
    size_t got = 0;
    while (capture_peek(c, &p)) {
        assert_true(p.samples[0] == (float)got && p.samples[p.n - 1] == (float)(got + p.n - 1));
        got += p.n;
        capture_take(c, p.n);
    }
    assert_int_equal(got, 1000);
    assert_true(capture_ended(c));
    capture_destroy(&c);
    capture_destroy(&c);
}

/* Blocks are held back until the loss before the first of them is known. */
static void test_capture_holds(void **state)
{
    (void)state;
    struct capture *c = NULL;
    struct capture_piece p;
    struct downmix mix;
    float block[100] = {0};
    downmix_init(&mix, 1000, 1, 0);
    assert_int_equal(capture_create(&c, 1000, 1), 0);
    assert_true(capture_put(c, &mix, block, 100, 1));
    capture_hold(c);
    assert_true(capture_put(c, &mix, block, 60, 2));
    assert_true(capture_put(c, &mix, block, 70, 3));
    assert_int_equal(capture_waiting(c), 100);
    assert_int_equal(capture_clock(c), 230);
    assert_int_equal(capture_back(c), 0);
    assert_true(capture_peek(c, &p));
    assert_int_equal(p.n, 100);
    capture_take(c, 100);
    assert_false(capture_peek(c, &p));
    capture_lose(c, SUR_SKIP_DEVICE, 5000);
    assert_false(capture_peek(c, &p));
    assert_int_equal(capture_back(c), 5100);
    capture_release(c);
    assert_int_equal(capture_waiting(c), 130);
    assert_true(capture_peek(c, &p));
    assert_int_equal(p.n, 60);
    assert_int_equal(p.entry_ns, 2);
    assert_int_equal(p.lost[SUR_SKIP_DEVICE], 5000);
    capture_take(c, 60);
    assert_true(capture_peek(c, &p));
    assert_int_equal(p.n, 70);
    assert_int_equal(p.lost[SUR_SKIP_DEVICE], 0);
    capture_take(c, 70);
    capture_release(c); /* nothing is held back */
    /* many losses that are not taken are added up, and none is forgotten */
    int64_t lost = 0;
    for (int i = 0; i < 200; i++) {
        capture_lose(c, SUR_SKIP_GAP, 3);
        assert_true(capture_put(c, &mix, block, 1, 4));
    }
    while (capture_peek(c, &p)) {
        lost += p.lost[SUR_SKIP_GAP];
        capture_take(c, p.n);
    }
    capture_lose(c, SUR_SKIP_GAP, 1);
    assert_true(capture_put(c, &mix, block, 1, 5));
    assert_true(capture_peek(c, &p));
    assert_int_equal(lost + p.lost[SUR_SKIP_GAP], 601);
    assert_int_equal(capture_clock(c), 230 + 201 + 5601);
    capture_destroy(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_policy), cmocka_unit_test(test_too_slow),
                                       cmocka_unit_test(test_capture), cmocka_unit_test(test_capture_holds)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
