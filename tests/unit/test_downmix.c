/* Channels to mono: which channels are averaged, and that the result does not depend on how frames are cut. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "input/downmix.h"

enum { RATE = 16000, SECONDS = 40, N = RATE * SECONDS, MOST = 18 };
static float frames[(size_t)N * MOST], mono[N], again[N], plain[N];
static uint32_t random_state = 1;

static float noise(double dbfs)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (float)(pow(10, dbfs / 20) * sqrt(3) * ((double)(int32_t)random_state / 2147483648.0));
}

/* A signal like speech at -26 dBFS: tones in words of 0.3 s with pauses of 0.2 s, and one of 3 s every 10 s. */
static float speech(size_t i)
{
    double t = (double)i / RATE, word = fmod(t, 0.5);
    if (word > 0.3 || fmod(t, 10) > 7) return 0;
    return (float)(0.07 * sin(M_PI * word / 0.3) * (sin(2 * M_PI * 220 * t) + 0.5 * sin(2 * M_PI * 1310 * t)));
}

/* In pieces of `piece` frames. */
static void mix(int channels, int channel, size_t n, size_t piece, float *out, struct downmix *d)
{
    downmix_init(d, RATE, channels, channel);
    for (size_t at = 0; at < n; at += piece) {
        size_t m = n - at < piece ? n - at : piece;
        downmix_run(d, frames + at * (size_t)channels, m, out + at);
    }
}

/* Mixes in one piece and in many cuts, which must agree; returns the events of the first. */
static unsigned mix_all(int channels, int channel, size_t n)
{
    static const size_t cuts[] = {1, 7, 160, 4096};
    struct downmix d;
    unsigned events = 0, others;
    mix(channels, channel, n, n, mono, &d);
    for (enum downmix_event e; (e = downmix_poll(&d)) != DOWNMIX_NOTHING;) events |= 1u << e;
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        mix(channels, channel, n, cuts[i], again, &d);
        assert_memory_equal(mono, again, n * sizeof *mono);
        others = 0;
        for (enum downmix_event e; (e = downmix_poll(&d)) != DOWNMIX_NOTHING;) others |= 1u << e;
        assert_int_equal(events, others);
    }
    return events;
}

static void average(int channels, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (int c = 0; c < channels; c++) sum += frames[i * (size_t)channels + (size_t)c];
        plain[i] = channels == 1 ? sum : sum / (float)channels;
    }
}

static void expect_plain(int channels, size_t n)
{
    average(channels, n);
    assert_int_equal(mix_all(channels, 0, n), 0);
    assert_memory_equal(mono, plain, n * sizeof *mono);
}

/* Asserts that mono is that channel from sample `from` on. */
static void expect_channel(int channels, int channel, size_t from, size_t n)
{
    for (size_t i = from; i < n; i++) {
        float wanted = frames[i * (size_t)channels + (size_t)channel];
        if (mono[i] != wanted) fail_msg("sample %zu is %g, not %g", i, mono[i], wanted);
    }
}

/* The level of mono against the words of speech(), in [from, to); 1 is all of it. */
static double heard(size_t from, size_t to)
{
    double is = 0, was = 0;
    for (size_t i = from; i < to; i++) {
        is += (double)mono[i] * (double)speech(i);
        was += (double)speech(i) * (double)speech(i);
    }
    return is / was;
}

static void test_mono_and_live_stereo_are_as_ever(void **state)
{
    for (size_t i = 0; i < N; i++) frames[i] = speech(i) + noise(-55);
    expect_plain(1, N);
    for (size_t i = 0; i < N; i++) { /* one side 15 dB below the other */
        frames[2 * i] = speech(i) + noise(-60);
        frames[2 * i + 1] = 0.18f * speech(i) + noise(-70);
    }
    expect_plain(2, N);
    for (size_t i = 0; i < N; i++) { /* one side 30 ms later, zeros before */
        frames[2 * i] = speech(i);
        frames[2 * i + 1] = i >= 480 ? speech(i - 480) : 0;
    }
    expect_plain(2, N);
    for (size_t i = 0; i < N; i++) { /* uncorrelated noise */
        frames[2 * i] = noise(-20);
        frames[2 * i + 1] = noise(-30);
    }
    expect_plain(2, N);
    for (size_t i = 0; i < N; i++) { /* two speakers in turn, each faintly in the other's microphone */
        bool second = i / RATE / 3 % 2 == 1;
        frames[2 * i] = speech(i) * (second ? 0.1f : 1);
        frames[2 * i + 1] = speech(i) * (second ? 1 : 0.1f);
    }
    expect_plain(2, N);
}

static void test_a_dead_side_is_left_out(void **state)
{
    for (int dead = 0; dead < 2; dead++)
        for (int with_noise = 0; with_noise < 2; with_noise++) {
            for (size_t i = 0; i < N; i++) {
                frames[2 * i + (size_t)dead] = with_noise ? noise(-75) : 0;
                frames[2 * i + 1 - (size_t)dead] = speech(i) + noise(-70);
            }
            assert_int_equal(mix_all(2, 0, N), 0);
            expect_channel(2, 1 - dead, 5 * RATE, 7 * RATE);
            expect_channel(2, 1 - dead, 12 * RATE, 17 * RATE);
            assert_true(heard(5 * RATE, N) > 0.98);
        }
}

static void test_one_of_many(void **state)
{
    for (int with_noise = 0; with_noise < 2; with_noise++) {
        for (size_t i = 0; i < N; i++)
            for (size_t c = 0; c < MOST; c++)
                frames[MOST * i + c] =
                    (with_noise ? noise(-72) : 0) + (c == 3 ? 0.1f * speech(i) : 0); /* -46 dBFS: 20 dB down */
        assert_int_equal(mix_all(MOST, 0, N), 0);
        double first = heard(0, RATE / 2) * 10, all = heard(0, N) * 10;
        if (first < 0.75 || all < 0.97) fail_msg("noise %d: first word %.3f, all %.3f", with_noise, first, all);
    }
}

static void test_input_two_of_four(void **state)
{
    for (size_t i = 0; i < N; i++)
        for (size_t c = 0; c < 4; c++) frames[4 * i + c] = noise(c == 0 ? -65 : -75) + (c == 1 ? speech(i) : 0);
    assert_int_equal(mix_all(4, 0, N), 0);
    assert_true(heard(0, RATE / 2) > 0.8);
    assert_true(heard(0, N) > 0.97);
}

static void test_the_speaker_changes_the_channel(void **state)
{
    const size_t changes = 15 * RATE;
    for (size_t i = 0; i < N; i++)
        for (size_t c = 0; c < 4; c++) frames[4 * i + c] = noise(-80) + (c == (i < changes ? 1u : 2u) ? speech(i) : 0);
    mix_all(4, 0, N);
    assert_true(heard(0, changes) > 0.97);
    assert_true(heard(changes, changes + RATE / 2) > 0.4); /* both are averaged at first */
    assert_true(heard(30 * RATE, N) > 0.97);
}

/* A bang next to an unused microphone. */
static void test_a_bang_elsewhere(void **state)
{
    for (size_t i = 0; i < N; i++)
        for (size_t c = 0; c < 4; c++) {
            frames[4 * i + c] = noise(-80) + (c == 1 ? speech(i) : 0);
            if (c == 2 && i >= 15 * RATE && i < 15 * RATE + RATE / 10) frames[4 * i + c] = noise(-3);
        }
    mix_all(4, 0, N);
    assert_true(heard(15 * RATE + RATE / 5, 17 * RATE) > 0.2);
    assert_true(heard(17 * RATE, 23 * RATE) > 0.45); /* the other one is averaged until it is forgotten */
    assert_true(heard(24 * RATE, N) > 0.97);
}

static void test_antiphase(void **state)
{
    for (size_t i = 0; i < N; i++) {
        frames[2 * i] = speech(i) + noise(-70);
        frames[2 * i + 1] = -speech(i) + noise(-70);
    }
    assert_int_equal(mix_all(2, 0, N), 1u << DOWNMIX_ANTIPHASE);
    assert_true(fabs(heard(RATE / 2, N)) > 0.95);
    /* exactly, and from the middle on */
    for (size_t i = 0; i < N; i++) {
        frames[2 * i] = speech(i);
        frames[2 * i + 1] = i < N / 2 ? speech(i) : -speech(i);
    }
    assert_int_equal(mix_all(2, 0, N), 1u << DOWNMIX_ANTIPHASE);
    assert_true(heard(0, N / 2) > 0.999);
    assert_true(fabs(heard(N / 2 + 5 * RATE, N)) > 0.95);
}

static void test_one_channel_by_its_number(void **state)
{
    for (size_t i = 0; i < N; i++)
        for (size_t c = 0; c < 4; c++) frames[4 * i + c] = c == 2 ? noise(-50) : noise(-10);
    for (int channel = 1; channel <= 4; channel++) {
        assert_int_equal(mix_all(4, channel, N), 0);
        expect_channel(4, channel - 1, 0, N);
    }
    for (size_t i = 0; i < N; i++) frames[4 * i] = 0;
    assert_int_equal(mix_all(4, 1, N), 1u << DOWNMIX_ZEROS);
}

static unsigned events_of(size_t n, bool ends)
{
    struct downmix d;
    unsigned events = 0;
    mix(1, 0, n, 999, mono, &d);
    if (ends) downmix_end(&d);
    for (enum downmix_event e; (e = downmix_poll(&d)) != DOWNMIX_NOTHING;) {
        assert_false(events & 1u << e);
        events |= 1u << e;
    }
    return events;
}

static void test_silence(void **state)
{
    struct downmix d;
    memset(frames, 0, sizeof(float) * N);
    assert_int_equal(events_of(5 * RATE - 1, false), 0);
    assert_int_equal(events_of(5 * RATE, false), 1u << DOWNMIX_ZEROS);
    assert_int_equal(events_of(N, true), 1u << DOWNMIX_ZEROS);
    assert_int_equal(events_of(100, true), 1u << DOWNMIX_ZEROS); /* short, and all of it */
    /* once per event: two stretches */
    downmix_init(&d, RATE, 1, 0);
    downmix_run(&d, frames, N / 2, mono);
    assert_int_equal(downmix_poll(&d), DOWNMIX_ZEROS);
    assert_int_equal(downmix_poll(&d), DOWNMIX_NOTHING);
    frames[N / 2] = 0.5f;
    downmix_run(&d, frames + N / 2, N / 2, mono);
    assert_int_equal(downmix_poll(&d), DOWNMIX_ZEROS);
    assert_int_equal(downmix_poll(&d), DOWNMIX_NOTHING);
    /* both events are kept until they are read */
    downmix_init(&d, RATE, 1, 0);
    downmix_run(&d, frames, N, mono);
    for (int i = 0; i < 2; i++) assert_int_equal(downmix_poll(&d), DOWNMIX_ZEROS);
    assert_int_equal(downmix_poll(&d), DOWNMIX_NOTHING);
    /* near silence is reported once, and not after something louder */
    for (size_t i = 0; i < N; i++) frames[i] = noise(-70);
    assert_int_equal(events_of(N, true), 1u << DOWNMIX_QUIET);
    assert_int_equal(events_of(RATE, true), 1u << DOWNMIX_QUIET);
    assert_int_equal(events_of(RATE, false), 0);
    for (size_t i = 100; i < 1000; i++) frames[i] = noise(-40);
    assert_int_equal(events_of(N, true), 0);
    assert_int_equal(events_of(150, true), 0);
}

/* Any number of channels, rates and noises: in place, and in cuts. */
static void test_random_sets(void **state)
{
    for (int round = 0; round < 12; round++) {
        int channels = 1 + (int)(random_state >> 8) % MOST;
        size_t n = 3 * RATE;
        for (int c = 0; c < channels; c++) {
            double level = noise(0) > 0 ? -80 + 60 * fabs((double)noise(-10)) : -100;
            for (size_t i = 0; i < n; i++)
                frames[i * (size_t)channels + (size_t)c] = noise(i / RATE % 2 ? level : -level - 110);
        }
        mix_all(channels, 0, n);
        struct downmix d;
        downmix_init(&d, RATE, channels, 0);
        downmix_run(&d, frames, n, frames);
        assert_memory_equal(mono, frames, n * sizeof *mono);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mono_and_live_stereo_are_as_ever),
        cmocka_unit_test(test_a_dead_side_is_left_out),
        cmocka_unit_test(test_one_of_many),
        cmocka_unit_test(test_input_two_of_four),
        cmocka_unit_test(test_the_speaker_changes_the_channel),
        cmocka_unit_test(test_a_bang_elsewhere),
        cmocka_unit_test(test_antiphase),
        cmocka_unit_test(test_one_channel_by_its_number),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_random_sets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
