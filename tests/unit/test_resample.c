/* Resampling: counts, indifference to how the input is cut, and that it is a good low-pass in the right place. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "audio/resample.h"

static const enum sur_resampler_kind kinds[] = {SUR_RESAMPLE_SOXR, SUR_RESAMPLE_SPEEX};
static const int rates[] = {1000, 8000, 11025, 12345, 16000, 22050, 44100, 48000, 96000, 192000, 768000};
enum { N_RATES = sizeof rates / sizeof *rates };

static uint32_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static size_t promised(size_t n, int rate)
{
    size_t want = (size_t)floor((double)n * 16000 / rate + 0.5);
    return n > 0 && want == 0 ? 1 : want;
}

/* Feeds n samples in pieces of at most most_in (0: all at once, 1: one by one, else random) with at most max_out of
 * room a call, then flushes. out has room for more than is promised, which would show. */
static size_t run(enum sur_resampler_kind kind, int rate, const float *x, size_t n, size_t most_in, size_t max_out,
                  float *out, size_t room)
{
    struct sur_resampler *r = NULL;
    assert_int_equal(sur_resampler_create(&r, kind, rate), SUR_OK);
    size_t at = 0, done = 0, used = 0, got = 0;
    while (at < n) {
        size_t piece = most_in == 0 ? n : most_in == 1 ? 1 : next_random() % most_in;
        if (piece > n - at) piece = n - at;
        size_t space = room - done < max_out ? room - done : max_out;
        got = sur_resampler_process(r, x + at, piece, &used, out + done, space);
        assert_true(used <= piece && got <= space);
        assert_true(used == piece || got == space); /* it stops early only if there is no room */
        at += used, done += got;
    }
    do {
        size_t space = room - done < max_out ? room - done : max_out;
        got = sur_resampler_process(r, NULL, 0, &used, out + done, space);
        assert_true(used == 0 && got <= space);
        done += got;
    } while (got > 0);
    sur_resampler_destroy(&r);
    assert_null(r);
    return done;
}

static void test_promised_count(void **state)
{
    static const size_t lengths[] = {0, 1, 2, 3, 5, 7, 24, 25, 100, 441, 1000, 4801, 20011};
    float *x = calloc(20011, sizeof *x), *out = calloc(400000, sizeof *out);
    for (int i = 0; i < 20011; i++) x[i] = (float)next_random() / (1 << 24) - 0.5f;
    for (size_t k = 0; k < 2; k++)
        for (int r = 0; r < N_RATES; r++)
            for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
                size_t want = promised(lengths[l], rates[r]);
                size_t got = run(kinds[k], rates[r], x, lengths[l], 0, 400000, out, 400000);
                if (got != want)
                    fail_msg("kind %zu, %d Hz, %zu in: %zu out, not %zu", k, rates[r], lengths[l], got, want);
            }
    free(x);
    free(out);
}

static void test_same_bits_in_any_pieces(void **state)
{
    static const size_t lengths[] = {1, 2, 3, 17, 441, 4801, 60013}, most[] = {1, 2, 50, 3000, 20000};
    static const size_t max_out[] = {1, 7, 160, 5000};
    enum { ROOM = 1000000 };
    float *x = calloc(60013, sizeof *x), *whole = calloc(ROOM, sizeof *x), *pieces = calloc(ROOM, sizeof *x);
    for (int i = 0; i < 60013; i++) x[i] = (float)next_random() / (1 << 24) - 0.5f;
    for (size_t k = 0; k < 2; k++)
        for (int r = 0; r < N_RATES; r++)
            for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
                size_t n = run(kinds[k], rates[r], x, lengths[l], 0, ROOM, whole, ROOM);
                for (size_t m = 0; m < sizeof most / sizeof *most; m++) {
                    size_t room = max_out[(m + l) % 4];
                    if (lengths[l] > 5000 && room < 100) room = 4999;
                    memset(pieces, 0xff, n * sizeof *pieces);
                    assert_int_equal(run(kinds[k], rates[r], x, lengths[l], most[m], room, pieces, ROOM), n);
                    if (memcmp(pieces, whole, n * sizeof *whole) != 0)
                        fail_msg("kind %zu, %d Hz, %zu in, pieces to %zu: other samples", k, rates[r], lengths[l],
                                 most[m]);
                }
            }
    free(x);
    free(whole);
    free(pieces);
}

/* Amplitude and phase (in samples at 16 kHz) of frequency hz in y[0..n), by least squares on whole periods. */
static void measure(const float *y, size_t n, double hz, double *amplitude, double *shift)
{
    double c = 0, s = 0;
    for (size_t i = 0; i < n; i++) {
        double phase = 2 * M_PI * hz * (double)i / 16000;
        c += y[i] * cos(phase), s += y[i] * sin(phase);
    }
    *amplitude = 2 * hypot(c, s) / (double)n;
    *shift = atan2(c, s) / (2 * M_PI * hz) * 16000;
}

/* 1 kHz lies in every pass-band: both designs claim a ripple under 0.01 dB (1.2e-3), and linear phase. */
static void test_sine_keeps_amplitude_and_phase(void **state)
{
    float *x = calloc(192000, sizeof *x), *y = calloc(20000, sizeof *y);
    for (size_t k = 0; k < 2; k++)
        for (int r = 1; rates[r] <= 192000; r++) {
            for (int i = 0; i < rates[r]; i++) x[i] = (float)(0.5 * sin(2 * M_PI * 1000 * i / rates[r]));
            assert_int_equal(run(kinds[k], rates[r], x, (size_t)rates[r], 0, 20000, y, 20000), 16000);
            double amplitude, shift;
            measure(y + 1600, 12800, 1000, &amplitude, &shift);
            if (fabs(amplitude - 0.5) > 0.5 * 1.2e-3)
                fail_msg("kind %zu, %d Hz: amplitude %.6f", k, rates[r], amplitude);
            if (fabs(shift) > 1e-3) fail_msg("kind %zu, %d Hz: off by %.6f samples", k, rates[r], shift);
        }
    free(x);
    free(y);
}

/* 10 kHz would fold to 6 kHz. soxr HQ promises 20 bits (-120 dB), speexdsp's quality 8 about -100 dB. */
static void test_tone_above_the_band_is_gone(void **state)
{
    static const double limit[] = {1e-6, 1e-5};
    float *x = calloc(96000, sizeof *x), *y = calloc(17000, sizeof *y);
    for (size_t k = 0; k < 2; k++)
        for (int rate = 48000; rate <= 96000; rate *= 2) {
            for (int i = 0; i < rate; i++) x[i] = (float)sin(2 * M_PI * 10000 * i / rate);
            assert_int_equal(run(kinds[k], rate, x, (size_t)rate, 0, 17000, y, 17000), 16000);
            double worst = 0;
            for (int i = 1600; i < 14400; i++) /* not fmax: gcc 12 for aarch64 fails on it */
                if (fabsf(y[i]) > worst) worst = fabsf(y[i]);
            if (worst > limit[k]) fail_msg("kind %zu, %d Hz: %.3g is left", k, rate, worst);
        }
    free(x);
    free(y);
}

static void test_16000_copies(void **state)
{
    float x[1000], y[1100];
    for (int i = 0; i < 1000; i++) x[i] = (float)next_random();
    for (size_t k = 0; k < 2; k++) {
        assert_int_equal(run(kinds[k], 16000, x, 1000, 17, 5, y, 1100), 1000);
        assert_memory_equal(x, y, sizeof x);
    }
}

/* A microphone's delay: all but 5 ms (80 samples) of what was spoken has come out, at any rate from 16 kHz up. */
static void test_speex_delay(void **state)
{
    static const float x[96000];
    static float y[17000];
    for (int r = 0; r < N_RATES; r++) {
        if (rates[r] <= 16000 || rates[r] > 96000) continue;
        struct sur_resampler *s = NULL;
        size_t used, n;
        assert_int_equal(sur_resampler_create(&s, SUR_RESAMPLE_SPEEX, rates[r]), SUR_OK);
        n = sur_resampler_process(s, x, (size_t)rates[r], &used, y, 17000);
        assert_true(n >= 16000 - 82 && n <= 16000 - 78);
        sur_resampler_destroy(&s);
    }
}

static void test_arguments(void **state)
{
    struct sur_resampler *r = NULL;
    assert_int_equal(sur_resampler_create(&r, SUR_RESAMPLE_SOXR, 999), SUR_ERR_ARGUMENT);
    assert_int_equal(sur_resampler_create(&r, SUR_RESAMPLE_SPEEX, 768001), SUR_ERR_ARGUMENT);
    assert_int_equal(sur_resampler_create(&r, (enum sur_resampler_kind)7, 48000), SUR_ERR_ARGUMENT);
    assert_null(r);
    sur_resampler_destroy(&r);
    sur_resampler_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_promised_count),
        cmocka_unit_test(test_same_bits_in_any_pieces),
        cmocka_unit_test(test_sine_keeps_amplitude_and_phase),
        cmocka_unit_test(test_tone_above_the_band_is_gone),
        cmocka_unit_test(test_16000_copies),
        cmocka_unit_test(test_speex_delay),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
