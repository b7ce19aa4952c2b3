/* The losses that arrivals.c finds, with a simulated sound card, host API and machine. The card records without end;
 * its blocks are delivered late, or never. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "input/arrivals.h"

enum { RATE = 48000, BLOCK = 480, MAX_LOSSES = 64 };
enum api { NO_TIMES, TRUE_TIMES, TIMES_OF_DELIVERY, STUCK_TIMES, TIMES_AHEAD };
#define MS INT64_C(1000000)
#define S  (1000 * MS)

static struct play {
    struct arrivals a;
    enum api api;
    double speed;    /* of the card's clock */
    int rate;        /* of the device now */
    int64_t now_ns;  /* delivery */
    int64_t card_ns; /* true time at which the next block begins */
    int64_t asleep_ns;
    bool overflow, reopened;
    double put, held;                 /* frames at RATE */
    int64_t held_at, longest_held_ns; /* held_at: time of the oldest one held */
    struct {
        int64_t at, n; /* frames */
        bool device;
    } losses[MAX_LOSSES];
    int n_losses;
} p;

static void begin(enum api api)
{
    memset(&p, 0, sizeof p);
    p.api = api;
    p.speed = 1;
    p.rate = RATE;
    p.now_ns = p.card_ns = 123456 * S;
    arrivals_init(&p.a, RATE);
}

static void follow(struct arrivals_advice advice)
{
    if (advice.lost) {
        assert_true(p.n_losses < MAX_LOSSES && advice.lost > 0);
        p.losses[p.n_losses].at = (int64_t)(p.put - p.held + 0.5);
        p.losses[p.n_losses].device = advice.device;
        p.losses[p.n_losses++].n = advice.lost;
    }
    if (advice.release) p.held = 0;
}

static int64_t block_ns(void)
{
    return (int64_t)(BLOCK * (double)S / (p.rate * p.speed));
}

/* Delivers the next block at at_ns, or as soon as it has been recorded. */
static void deliver(int64_t at_ns)
{
    int64_t recorded = p.card_ns;
    p.card_ns += block_ns();
    if (at_ns < p.card_ns) at_ns = p.card_ns;
    if (at_ns > p.now_ns) p.now_ns = at_ns;
    struct arrivals_block b = {BLOCK, p.now_ns - p.asleep_ns, p.asleep_ns, 0, 0, p.overflow, p.reopened, p.rate};
    if (p.api != NO_TIMES) b.current_s = 1000 + (double)p.now_ns * 1e-9;
    if (p.api == TRUE_TIMES) b.recorded_s = 1000 + (double)recorded * 1e-9;
    if (p.api == TIMES_OF_DELIVERY) b.recorded_s = b.current_s;
    if (p.api == STUCK_TIMES) b.recorded_s = 1000;
    if (p.api == TIMES_AHEAD) b.recorded_s = b.current_s + 1;
    struct arrivals_advice advice = arrivals_look(&p.a, &b);
    follow(advice);
    if (advice.hold && p.held < 1) p.held_at = p.now_ns;
    if (advice.hold && p.now_ns - p.held_at > p.longest_held_ns) p.longest_held_ns = p.now_ns - p.held_at;
    p.held = advice.hold ? p.held + (double)BLOCK * RATE / p.rate : 0;
    p.put += (double)BLOCK * RATE / p.rate;
    p.overflow = p.reopened = false;
}

static void in_time(int64_t ns)
{
    for (int64_t end = p.card_ns + ns; p.card_ns < end;) deliver(0);
}

/* Delivers all blocks recorded until now, one right after the other. */
static void catch_up(void)
{
    while (p.card_ns + block_ns() <= p.now_ns) deliver(p.now_ns + MS / 100);
}

static void stop(int64_t ns)
{
    p.now_ns += ns;
}

static void lose(int64_t ns)
{
    p.card_ns += ns;
    if (p.now_ns < p.card_ns) p.now_ns = p.card_ns;
}

static void check_lost(int i, int64_t at_ms, int64_t ms, int64_t at_off_ms, int64_t off_ms)
{
    assert_true(i < p.n_losses);
    int64_t at = p.losses[i].at * 1000 / RATE, n = p.losses[i].n * 1000 / RATE;
    assert_in_range(at + 100000, at_ms - at_off_ms + 100000, at_ms + at_off_ms + 100000);
    assert_in_range(n + 100000, ms - off_ms + 100000, ms + off_ms + 100000);
}

static uint32_t seed = 1;

static int64_t up_to(int64_t ns)
{
    seed = seed * 1664525u + 1013904223u;
    return (int64_t)((double)seed / 4294967296.0 * (double)ns);
}

/* An hour on a busy machine, blocks in fragments, the first ones late: nothing was lost. */
static void test_jitter(void **state)
{
    (void)state;
    for (enum api api = NO_TIMES; api <= TIMES_AHEAD; api++) {
        begin(api);
        stop(700 * MS);
        catch_up();
        for (int i = 0; i < 3600; i++) {
            in_time(up_to(2 * S));
            stop(up_to(i % 50 == 0 ? 15 * S : 300 * MS));
            for (int k = 0; k < 100 && i % 7 == 0; k++) deliver(p.now_ns + up_to(8 * MS)); /* a little faster */
            catch_up();
        }
        for (int i = 0; i < 1000; i++) { /* fragments of 250 ms */
            stop(250 * MS);
            catch_up();
        }
        assert_int_equal(p.n_losses, 0);
    }
}

/* Days on a card that is fast or slow. */
static void test_drift(void **state)
{
    (void)state;
    static const double speeds[] = {1.0002, 0.9998, 1.0004, 0.9996};
    for (int i = 0; i < 8; i++) {
        begin(i < 4 ? NO_TIMES : TRUE_TIMES);
        p.speed = speeds[i % 4];
        for (int h = 0; h < 24; h++) {
            in_time(3600 * S);
            stop(up_to(2 * S));
            catch_up();
        }
        assert_int_equal(p.n_losses, 0);
        /* and losses are still found */
        lose(3 * S);
        in_time(2 * S);
        assert_int_equal(p.n_losses, 1);
        check_lost(0, p.losses[0].at * 1000 / RATE, 3000, 0, 30);
    }
}

/* A stopped process: the server keeps the first 20 s and drops the rest without a flag. */
static void test_stopped(void **state)
{
    (void)state;
    for (enum api api = NO_TIMES; api <= TIMES_AHEAD; api++) {
        static const int64_t stops[] = {1, 10, 40, 130, 4000};
        for (int i = 0; i < 5; i++) {
            int64_t kept = stops[i] < 20 ? stops[i] : 20, lost = stops[i] - kept;
            begin(api);
            in_time(5 * S);
            stop(stops[i] * S);
            for (int64_t k = 0; k < kept * 100; k++) deliver(p.now_ns + MS / 100);
            lose(lost * S);
            in_time(10 * S);
            assert_int_equal(p.n_losses, lost > 0);
            if (lost > 0) check_lost(0, (5 + kept) * 1000, lost * 1000, 30, 30);
            assert_true(p.longest_held_ns < 600 * MS);
            assert_true(p.held < 1);
        }
    }
}

/* A stream that is moved 20 times loses 120 ms each time: the part that is not reported is no more than what a change
 * of the delay may explain. */
static void test_small_losses(void **state)
{
    (void)state;
    for (int apart = 1; apart <= 10; apart += 3) {
        begin(NO_TIMES);
        int64_t sum = 0;
        for (int i = 0; i < 20; i++) {
            in_time(apart * S);
            lose(120 * MS);
        }
        in_time(10 * S);
        for (int i = 0; i < p.n_losses; i++) sum += p.losses[i].n;
        assert_in_range(sum * 1000 / RATE, 2400 - 300, 2401);
    }
}

static void test_reported(void **state)
{
    (void)state;
    for (enum api api = NO_TIMES; api <= TIMES_AHEAD; api++) {
        begin(api);
        p.overflow = true; /* at the start, without a loss */
        in_time(S);
        p.overflow = true; /* again without a loss */
        in_time(S);
        assert_int_equal(p.n_losses, 0);
        lose(50 * MS);
        p.overflow = true;
        in_time(2 * S);
        assert_int_equal(p.n_losses, 1);
        check_lost(0, 2000, 50, 0, 1);
        /* lost first, then late: what was buffered meanwhile is not counted twice */
        lose(4 * S);
        p.overflow = true;
        stop(3 * S);
        deliver(0);
        catch_up();
        in_time(2 * S);
        assert_int_equal(p.n_losses, 2);
        check_lost(1, 4000, 4000, 0, 15);
        assert_false(p.losses[1].device);
        /* two right after each other are one */
        double put = p.put;
        for (int i = 0; i < 2; i++) {
            lose(60 * MS);
            p.overflow = true;
            deliver(0);
        }
        in_time(2 * S);
        assert_int_equal(p.n_losses, 3);
        check_lost(2, (int64_t)(put * 1000 / RATE), 120, 0, 1);
        /* late, then lost before all has come */
        stop(700 * MS);
        put = p.put + 50 * BLOCK;
        for (int i = 0; i < 50; i++) deliver(p.now_ns + MS / 100);
        lose(500 * MS);
        in_time(2 * S);
        assert_int_equal(p.n_losses, 4);
        check_lost(3, (int64_t)(put * 1000 / RATE), 500, 0, 15);
    }
}

static void reopen(int64_t away_ns, int64_t late_ns, int rate)
{
    follow(arrivals_settle(&p.a));
    p.held = 0;
    lose(away_ns);
    p.rate = rate;
    p.reopened = true;
    stop(late_ns);
    deliver(0);
    catch_up();
    in_time(5 * S);
}

static void test_device(void **state)
{
    (void)state;
    static const int rates[] = {48000, 44100, 16000, 96000};
    for (enum api api = NO_TIMES; api <= TIMES_AHEAD; api++) {
        int64_t lost = 0, at = 0;
        begin(api);
        in_time(5 * S);
        for (int i = 0; i < 20; i++) {
            at = (int64_t)(p.put + 0.5);
            reopen((2 + i) * S, i % 4 * S, rates[i % 4]);
            assert_int_equal(p.n_losses, i + 1);
            assert_true(p.losses[i].device);
            assert_int_equal(p.losses[i].at, at);
            lost += p.losses[i].n;
        }
        /* the time matches the card's, and no error has added up */
        int64_t clock_ns = (int64_t)((p.put + (double)lost) * 1e9 / RATE), is_ns = p.card_ns - 123456 * S;
        assert_true(clock_ns - is_ns < 20 * MS && is_ns - clock_ns < 20 * MS);
    }
    /* a year at 192 kHz, three days at 8 kHz */
    static const struct {
        int rate, days;
    } longs[] = {{192000, 366}, {8000, 3}, {48000, 5}};
    for (int i = 0; i < 3; i++) {
        begin(NO_TIMES);
        arrivals_init(&p.a, longs[i].rate);
        p.rate = longs[i].rate;
        in_time(2 * S);
        reopen(longs[i].days * 86400 * S, 0, longs[i].rate);
        assert_int_equal(p.n_losses, 1);
        assert_in_range(p.losses[0].n / longs[i].rate, longs[i].days * 86400 - 1, longs[i].days * 86400);
    }
    /* an undecided loss is decided when the stream ends */
    begin(NO_TIMES);
    in_time(5 * S);
    lose(2 * S);
    in_time(200 * MS);
    assert_int_equal(p.n_losses, 0);
    reopen(3 * S, 0, RATE);
    assert_int_equal(p.n_losses, 2);
    check_lost(0, 5000, 2000, 0, 1);
    check_lost(1, 5200, 3000, 0, 1);
    assert_true(!p.losses[0].device && p.losses[1].device);
}

static void sleep_through(int64_t ns)
{
    lose(ns);
    p.asleep_ns += ns;
}

static void test_suspended(void **state)
{
    (void)state;
    begin(NO_TIMES);
    in_time(5 * S);
    sleep_through(3600 * S);
    in_time(2 * S);
    assert_int_equal(p.n_losses, 1);
    check_lost(0, 5000, 3600000, 0, 1);
    sleep_through(100 * 3600 * S);
    reopen(2 * S, 500 * MS, RATE);
    assert_int_equal(p.n_losses, 2);
    check_lost(1, 7000, 360002000, 0, 15);
    for (int i = 0; i < 1000; i++) { /* the two clocks are not read at the same moment */
        p.asleep_ns += i % 2 ? 5 * MS : -5 * MS;
        in_time(100 * MS);
    }
    assert_int_equal(p.n_losses, 2);
}

/* Delivery becomes permanently slower, and faster again: the host API's times show that nothing was lost. */
static void test_delay_changes(void **state)
{
    (void)state;
    begin(TRUE_TIMES);
    in_time(10 * S);
    for (int i = 0; i < 1000; i++) deliver(p.card_ns + block_ns() + 800 * MS);
    assert_int_equal(p.n_losses, 0);
    catch_up();
    in_time(10 * S);
    assert_int_equal(p.n_losses, 0);
    lose(S);
    in_time(2 * S);
    assert_int_equal(p.n_losses, 1);
    check_lost(0, 30000, 1000, 900, 30);
}

static void test_first(void **state)
{
    (void)state;
    begin(NO_TIMES);
    int64_t began = p.card_ns;
    stop(600 * MS);
    deliver(0);
    assert_true(arrivals_first_ns(&p.a) - began > 500 * MS);
    catch_up();
    in_time(S);
    assert_true(arrivals_first_ns(&p.a) - began < 2 * MS);
    lose(10 * S);
    in_time(S);
    assert_int_equal(p.n_losses, 1);
    /* always delivered late: the host API knows */
    begin(TRUE_TIMES);
    began = p.card_ns;
    for (int i = 0; i < 100; i++) deliver(p.card_ns + block_ns() + 220 * MS);
    assert_true(arrivals_first_ns(&p.a) - began < 2 * MS && began - arrivals_first_ns(&p.a) < 2 * MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_jitter),       cmocka_unit_test(test_drift),         cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_small_losses), cmocka_unit_test(test_reported),      cmocka_unit_test(test_device),
        cmocka_unit_test(test_suspended),    cmocka_unit_test(test_delay_changes), cmocka_unit_test(test_first)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
