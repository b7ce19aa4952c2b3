/* The timeline: where losses and silence that was put in move the clock. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "audio/timeline.h"
#include "util/scale.h"

static struct sur_timeline t;
static struct sur_lost_time lost;

static void take(int64_t before, int64_t t0, int64_t t1, int why)
{
    assert_true(sur_timeline_take(&t, before, &lost));
    assert_int_equal(lost.t0, t0);
    assert_int_equal(lost.t1, t1);
    assert_int_equal(lost.why, why);
}

static void test_losses(void **state)
{
    (void)state;
    memset(&t, 0, sizeof t);
    assert_int_equal(sur_timeline_clock(&t, 500), 500);
    /* three at one place, and one right after */
    assert_true(sur_timeline_lose(&t, 1000, 30, 0));
    assert_true(sur_timeline_lose(&t, 1000, 500, 1));
    assert_true(sur_timeline_lose(&t, 1000, 7, 2));
    assert_true(sur_timeline_lose(&t, 1001, 60, 0));
    assert_int_equal(sur_timeline_waiting(&t), 4);
    assert_false(sur_timeline_take(&t, 1000, &lost)); /* what ends where the loss is was before it */
    assert_int_equal(sur_timeline_clock(&t, 1000), 1000);
    take(1001, 1000, 1030, 0);
    take(1001, 1030, 1530, 1);
    take(1001, 1530, 1537, 2);
    assert_false(sur_timeline_take(&t, 1001, &lost));
    assert_int_equal(sur_timeline_clock(&t, 900), 1537); /* never back over a loss that was told */
    assert_int_equal(sur_timeline_clock(&t, 1000), 1537);
    assert_int_equal(sur_timeline_clock(&t, 1001), 1538);
    take(INT64_MAX, 1538, 1598, 0);
    assert_int_equal(sur_timeline_clock(&t, 2000), 2597);
    assert_int_equal(t.lost, 597);
}

static void test_silence(void **state)
{
    (void)state;
    memset(&t, 0, sizeof t);
    assert_true(sur_timeline_lose(&t, 100, 10, 0));
    take(101, 100, 110, 0);
    assert_true(sur_timeline_fill(&t, 1200, 200)); /* 1000 to 1200 */
    assert_int_equal(sur_timeline_clock(&t, 999), 1009);
    assert_int_equal(sur_timeline_clock(&t, 1000), 1010);
    assert_int_equal(sur_timeline_clock(&t, 1100), 1010); /* time stands still in it */
    assert_int_equal(sur_timeline_clock(&t, 1500), 1010); /* and after it, until a loss states its length */
    assert_false(sur_timeline_take(&t, INT64_MAX, &lost));
    assert_true(sur_timeline_lose(&t, 1200, 5000, 2));
    assert_false(sur_timeline_take(&t, 1200, &lost));
    take(1201, 1010, 6010, 2); /* one loss, the silence being part of it */
    assert_int_equal(sur_timeline_clock(&t, 1100), 6010);
    assert_int_equal(sur_timeline_clock(&t, 1210), 6020);
    assert_int_equal(t.lost, 5010);
    /* a loss shorter than the silence lasts as long as that; another at the same place comes on top */
    assert_true(sur_timeline_fill(&t, 2200, 200));
    assert_true(sur_timeline_lose(&t, 2200, 0, 1));
    assert_true(sur_timeline_lose(&t, 2200, 40, 0));
    take(2201, 6810, 7010, 1);
    take(2201, 7010, 7050, 0);
    assert_int_equal(sur_timeline_clock(&t, 2200), 7050);
}

static void test_full(void **state)
{
    (void)state;
    memset(&t, 0, sizeof t);
    for (int i = 0; i < SUR_TIMELINE_LOSSES - 1; i++) assert_true(sur_timeline_lose(&t, i, 1, 0));
    assert_false(sur_timeline_fill(&t, 200, 100)); /* no room for the loss that has to follow it */
    assert_true(sur_timeline_take(&t, 1, &lost));
    assert_true(sur_timeline_fill(&t, 200, 100));
    assert_true(sur_timeline_lose(&t, 200, 100, 0));
    assert_false(sur_timeline_lose(&t, 200, 100, 0));
    for (int i = 1; i < SUR_TIMELINE_LOSSES; i++) assert_true(sur_timeline_take(&t, INT64_MAX, &lost));
    assert_int_equal(lost.t0, 100 + 63);
    assert_int_equal(sur_timeline_waiting(&t), 0);
}

/* A year of losses at 192 kHz: nothing overflows, and no rounding adds up. */
static void test_a_year(void **state)
{
    (void)state;
    const int64_t rate = 192000, year_s = 366 * 86400LL, frames = year_s * rate;
    assert_int_equal(sur_scale(frames, 16000, rate), year_s * 16000);
    assert_int_equal(sur_scale(year_s * 1000000000LL, rate, 1000000000), frames);
    memset(&t, 0, sizeof t);
    int64_t sum = 0, told = 0, at = 0;
    for (int64_t i = 0; i < 100000; i++) {
        sum += 44100 / 7;
        int64_t now = sur_scale(sum, 16000, 44100);
        at += 100;
        assert_true(sur_timeline_lose(&t, at, now - told, 0));
        told = now;
        assert_true(sur_timeline_take(&t, at + 1, &lost));
    }
    assert_int_equal(sur_timeline_clock(&t, at), at + sur_scale(100000 * 6300LL, 16000, 44100));
}

enum { MANY = 200000 };

static void *write_losses(void *arg)
{
    for (int64_t i = 1; i <= MANY;)
        if (sur_timeline_lose(&t, i * 10, i % 7, (int)(i % 3)))
            i++;
        else
            sched_yield();
    return arg;
}

static void test_two_threads(void **state)
{
    (void)state;
    memset(&t, 0, sizeof t);
    pthread_t writer;
    int64_t clock = 0;
    assert_int_equal(pthread_create(&writer, NULL, write_losses, NULL), 0);
    for (int64_t i = 1; i <= MANY;) {
        if (!sur_timeline_take(&t, INT64_MAX, &lost)) {
            sched_yield();
            continue;
        }
        clock += 10;
        assert_int_equal(lost.t0, clock);
        clock += i % 7;
        assert_int_equal(lost.t1, clock);
        assert_int_equal(lost.why, i % 3);
        i++;
    }
    pthread_join(writer, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_losses), cmocka_unit_test(test_silence),
                                       cmocka_unit_test(test_full), cmocka_unit_test(test_a_year),
                                       cmocka_unit_test(test_two_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
