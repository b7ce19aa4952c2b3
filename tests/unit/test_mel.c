/* The mel against a plain DFT of the definition, and its indifference to how samples arrive. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "audio/mel.h"
#include "surtitle.h"

enum { WINDOW = 400, HOP = 160, BINS = 201, MELS = 128 };
static const double log_max = 1.5;

static uint32_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static float uniform(void)
{
    return (float)next_random() / (1 << 23) - 1;
}

/* ---- reference ----------------------------------------------------------------------------------------------------
 */

static double h2m(double hz)
{
    return hz >= 1000 ? 15 + log(hz / 1000) * 27 / log(6.4) : 3 * hz / 200;
}
static double m2h(double mel)
{
    return mel >= 15 ? 1000 * exp(log(6.4) / 27 * (mel - 15)) : 200 * mel / 3;
}

/* Row m of the filter matrix, the formula as it stands in the definition. */
static void ref_filter(int m, double *w)
{
    double step = h2m(8000) / (MELS + 1), p0 = m2h(m * step), p1 = m2h((m + 1) * step), p2 = m2h((m + 2) * step);
    for (int k = 0; k < BINS; k++) {
        double rise = (40.0 * k - p0) / (p1 - p0), fall = (p2 - 40.0 * k) / (p2 - p1);
        w[k] = fmax(0, fmin(rise, fall)) * 2 / (p2 - p0);
    }
}

/* One frame [MELS] of x[0..n), centred on 160 k, and how far a transform in fp64 may be from it. Unit roundoff u. A bin
 * X is a sum of 400 terms whose computed value, by whichever grouping (here 400 terms, there 20 + 20 and one twiddle),
 * is within 400 u sum|x w| for the plain sum and 48 u sum|x w| for the other; rounding of the tables adds 3 u. The
 * bound e takes both. So |X|^2 is off by 2 |X| e + 3 e^2 (|X| is itself off by e), a filter sums that and adds (n + 4)
 * u of itself, the logarithm divides by the value, and fp32 rounds once. */
static void ref_frame(const float *x, size_t n, size_t k, double *out, double *bound)
{
    static double cosine[WINDOW], sine[WINDOW], w[MELS][BINS];
    if (cosine[0] == 0) {
        for (int i = 0; i < WINDOW; i++) cosine[i] = cos(2 * M_PI * i / WINDOW), sine[i] = sin(2 * M_PI * i / WINDOW);
        for (int m = 0; m < MELS; m++) ref_filter(m, w[m]);
    }
    const double u = DBL_EPSILON / 2;
    double frame[WINDOW], power[BINS], error[BINS], sum_abs = 0;
    for (size_t i = 0; i < WINDOW; i++) {
        size_t at = HOP * k + i; /* + 200 */
        double v = at >= 200 && at - 200 < n ? x[at - 200] : 0;
        frame[i] = v * (0.5 - 0.5 * cosine[i]);
        sum_abs += fabs(frame[i]);
    }
    for (int b = 0; b < BINS; b++) {
        double re = 0, im = 0, e = (400 + 48 + 2 * 3) * u * sum_abs;
        for (int i = 0; i < WINDOW; i++) re += frame[i] * cosine[b * i % WINDOW], im -= frame[i] * sine[b * i % WINDOW];
        power[b] = re * re + im * im;
        error[b] = 2 * sqrt(power[b]) * e + 3 * e * e;
    }
    for (int m = 0; m < MELS; m++) {
        double sum = 0, off = 0;
        for (int b = 0; b < BINS; b++) sum += w[m][b] * power[b], off += w[m][b] * error[b];
        off += (2 * BINS + 4) * u * sum;
        double floored = fmax(sum, 1e-10);
        out[m] = (fmax(log10(floored), log_max - 8) + 4) / 4;
        bound[m] = off / (fmax(floored - off, 1e-10) * log(10)) / 4 + (fabs(out[m]) + 1) * FLT_EPSILON / 2;
    }
}

/* ---- helpers ------------------------------------------------------------------------------------------------------
 */

static size_t n_frames(size_t n)
{
    return n < 200 ? 0 : (n - 200) / HOP + 1;
}

/* Feeds n samples in pieces of at most `most` (0: all at once; 1: one by one; else of random length, empty ones too),
 * taking at most max_frames a call. Returns how many frames came. */
static size_t run(const float *x, size_t n, size_t most, size_t max_frames, float *out)
{
    struct sur_mel *mel = NULL;
    assert_int_equal(sur_mel_create(&mel, MELS, log_max), SUR_OK);
    size_t at = 0, frames = 0, got = 0;
    while (at < n || got > 0) {
        size_t piece = most == 0 ? n : most == 1 ? 1 : next_random() % most, used = 0;
        if (piece > n - at) piece = n - at;
        got = sur_mel_process(mel, x + at, piece, &used, out + frames * MELS, max_frames);
        assert_true(used <= piece && got <= max_frames);
        at += used, frames += got;
    }
    sur_mel_destroy(&mel);
    assert_null(mel);
    return frames;
}

static double check(const float *x, size_t n)
{
    size_t frames = n_frames(n);
    float *got = calloc(frames + 1, MELS * sizeof *got);
    assert_int_equal(run(x, n, 0, frames + 1, got), frames);
    double worst = 0;
    for (size_t k = 0; k < frames; k++) {
        double want[MELS], bound[MELS];
        ref_frame(x, n, k, want, bound);
        for (int m = 0; m < MELS; m++) {
            double d = fabs(got[k * MELS + (size_t)m] - want[m]);
            if (!(d <= bound[m]))
                fail_msg("frame %zu mel %d: %.9g, not %.9g +- %.2g", k, m, got[k * MELS + (size_t)m], want[m],
                         bound[m]);
            worst = fmax(worst, bound[m]);
        }
    }
    free(got);
    return worst;
}

/* ---- tests --------------------------------------------------------------------------------------------------------
 */

static void test_noise_against_reference(void **state)
{
    enum { N = 4000 };
    float x[N];
    for (int i = 0; i < N; i++) x[i] = uniform();
    assert_true(check(x, N) < 2e-6); /* the bound itself must stay one that an fp32 transform cannot meet */
}

static void test_loud_beside_quiet(void **state)
{
    enum { N = 1600 };
    float x[N];
    for (int i = 0; i < N; i++)
        x[i] = (float)(0.99 * sin(2 * M_PI * 440 * i / 16000) + 1e-6 * sin(2 * M_PI * 6000 * i / 16000));
    assert_true(check(x, N) < 2e-6);
    for (int i = 0; i < N; i++)
        x[i] = (float)sin(2 * M_PI * 1000 * i / 16000); /* full scale, a whole number of periods */
    assert_true(check(x, N) < 2e-6);
}

static void test_impulses(void **state)
{
    float x[1200];
    for (int at = 0; at < 1200; at += 37) {
        memset(x, 0, sizeof x);
        x[at] = at & 1 ? -1 : 1;
        check(x, 1200);
    }
}

static void test_silence_is_the_floor(void **state)
{
    static const float x[200];
    float out[MELS];
    assert_int_equal(run(x, 200, 0, 1, out), 1);
    for (int m = 0; m < MELS; m++) assert_true(out[m] == (float)((1.5 - 8 + 4) / 4));
}

static void test_first_frame_needs_200(void **state)
{
    float x[400], out[2 * MELS];
    for (int i = 0; i < 400; i++) x[i] = uniform();
    assert_int_equal(run(x, 199, 0, 1, out), 0);
    assert_int_equal(run(x, 200, 0, 1, out), 1);
    assert_int_equal(run(x, 359, 0, 2, out), 1);
    assert_int_equal(run(x, 360, 0, 2, out), 2);
    check(x, 400);
}

static void test_same_bits_in_any_pieces(void **state)
{
    enum { N = 16000 };
    static float x[N], whole[202 * MELS], pieces[202 * MELS]; /* room for 101 more than there are frames */
    for (int i = 0; i < N; i++) x[i] = 0.3f * uniform();
    size_t frames = run(x, N, 0, 101, whole);
    assert_int_equal(frames, n_frames(N));
    static const size_t most[] = {1, 2, 50, 400, 3000}, max_frames[] = {1, 2, 8, 101};
    for (size_t i = 0; i < sizeof most / sizeof *most; i++)
        for (size_t j = 0; j < sizeof max_frames / sizeof *max_frames; j++) {
            memset(pieces, 0, sizeof pieces);
            assert_int_equal(run(x, N, most[i], max_frames[j], pieces), frames);
            assert_memory_equal(pieces, whole, frames * MELS * sizeof *whole);
        }
}

static void test_full_output_stops(void **state)
{
    static float x[2000];
    float out[MELS];
    struct sur_mel *mel = NULL;
    size_t used = 0;
    assert_int_equal(sur_mel_create(&mel, MELS, log_max), SUR_OK);
    assert_int_equal(sur_mel_process(mel, x, 2000, &used, out, 0), 0);
    assert_int_equal(used, 200);
    assert_int_equal(sur_mel_process(mel, x, 2000, &used, out, 1), 1);
    assert_int_equal(used, HOP);
    assert_int_equal(sur_mel_process(mel, NULL, 0, &used, out, 1), 1);
    assert_int_equal(used, 0);
    sur_mel_destroy(&mel);
}

static void test_arguments(void **state)
{
    struct sur_mel *mel = NULL;
    assert_int_equal(sur_mel_create(&mel, 0, log_max), SUR_ERR_ARGUMENT);
    assert_int_equal(sur_mel_create(&mel, 1025, log_max), SUR_ERR_ARGUMENT);
    assert_int_equal(sur_mel_create(&mel, MELS, NAN), SUR_ERR_ARGUMENT);
    assert_null(mel);
    assert_true(strlen(sur_error_text()) > 0);
    sur_mel_destroy(&mel);
    for (int n = 1; n <= 1024; n = n * 2 + 1) { /* many triangles hold no bin: the floor, no fault */
        float out[1024];
        float x[200];
        for (int i = 0; i < 200; i++) x[i] = uniform();
        size_t used = 0;
        assert_int_equal(sur_mel_create(&mel, n, log_max), SUR_OK);
        assert_int_equal(sur_mel_process(mel, x, 200, &used, out, 1), 1);
        for (int m = 0; m < n; m++) assert_true(isfinite(out[m]));
        sur_mel_destroy(&mel);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_noise_against_reference),
        cmocka_unit_test(test_loud_beside_quiet),
        cmocka_unit_test(test_impulses),
        cmocka_unit_test(test_silence_is_the_floor),
        cmocka_unit_test(test_first_frame_needs_200),
        cmocka_unit_test(test_same_bits_in_any_pieces),
        cmocka_unit_test(test_full_output_stops),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
