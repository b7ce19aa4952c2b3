#include "audio/mel.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"

enum { WINDOW = 400, HOP = 160, BINS = WINDOW / 2 + 1, RADIX = 20, HALF = RADIX / 2, LANES = 12, MAX_MELS = 1024 };

/* The bins under one triangle: power[first + i] * weights[offset + i], i < n. */
struct filter {
    int first, n, offset;
};

struct sur_mel {
    /* immutable after create */
    int n_mels;
    double floor; /* of the log, log_max - 8 */
    double hann[WINDOW];
    double cosine[RADIX], sine[RADIX];                           /* of 2 pi j / 20 */
    double twiddle_cos[RADIX][LANES], twiddle_sin[RADIX][LANES]; /* of 2 pi b k / 400, [b][k] */
    struct filter *filters;                                      /* [n_mels] */
    double *weights;                                             /* the triangles one after the other */
    /* encode thread */
    size_t held;         /* samples in frame, from its start */
    float frame[WINDOW]; /* the frame being gathered */
};

static double hz_to_mel(double hz)
{
    return hz >= 1000 ? 15 + log(hz / 1000) * 27 / log(6.4) : 3 * hz / 200;
}

static double mel_to_hz(double mel)
{
    return mel >= 15 ? 1000 * exp(log(6.4) / 27 * (mel - 15)) : 200 * mel / 3;
}

/* Triangles of equal area over bins of 40 Hz. weights has room for all of them: two triangles cover a bin. */
static void make_filters(struct sur_mel *mel)
{
    double step = hz_to_mel(8000) / (mel->n_mels + 1);
    int offset = 0;
    for (int m = 0; m < mel->n_mels; m++) {
        double left = mel_to_hz(m * step), centre = mel_to_hz((m + 1) * step), right = mel_to_hz((m + 2) * step);
        struct filter *f = &mel->filters[m];
        f->offset = offset;
        for (int bin = 0; bin < BINS; bin++) {
            double hz = 40.0 * bin;
            double w = fmin((hz - left) / (centre - left), (right - hz) / (right - centre)) * (2 / (right - left));
            if (w <= 0) continue;
            if (f->n++ == 0) f->first = bin;
            mel->weights[offset++] = w;
        }
    }
}

int sur_mel_create(struct sur_mel **mel, int n_mels, double log_max)
{
    *mel = NULL;
    if (n_mels < 1 || n_mels > MAX_MELS)
        return sur_fail(SUR_ERR_ARGUMENT, "%d mel bins; 1 to %d are possible", n_mels, MAX_MELS);
    if (!isfinite(log_max)) return sur_fail(SUR_ERR_ARGUMENT, "the mel's log maximum is not a number");
    struct sur_mel *m = calloc(1, sizeof *m);
    if (m) m->filters = calloc((size_t)n_mels, sizeof *m->filters);
    if (m) m->weights = calloc(2 * BINS, sizeof *m->weights);
    if (!m || !m->filters || !m->weights) {
        sur_mel_destroy(&m);
        return sur_fail(SUR_ERR_MEMORY, "no memory for the mel filters");
    }
    m->n_mels = n_mels;
    m->floor = log_max - 8;
    m->held = WINDOW / 2; /* the zeros before the first sample */
    for (int i = 0; i < WINDOW; i++) m->hann[i] = 0.5 - 0.5 * cos(2 * M_PI * i / WINDOW);
    for (int j = 0; j < RADIX; j++) {
        m->cosine[j] = cos(2 * M_PI * j / RADIX);
        m->sine[j] = sin(2 * M_PI * j / RADIX);
        for (int k = 0; k < LANES; k++) {
            m->twiddle_cos[j][k] = cos(2 * M_PI * j * k / WINDOW);
            m->twiddle_sin[j][k] = sin(2 * M_PI * j * k / WINDOW);
        }
    }
    make_filters(m);
    *mel = m;
    return SUR_OK;
}

void sur_mel_tables(const struct sur_mel *mel, float *filters, float *window)
{
    memset(filters, 0, sizeof *filters * (size_t)mel->n_mels * BINS);
    for (int m = 0; m < mel->n_mels; m++) {
        const struct filter *f = &mel->filters[m];
        for (int i = 0; i < f->n; i++) filters[m * BINS + f->first + i] = (float)mel->weights[f->offset + i];
    }
    for (int i = 0; i < WINDOW; i++) window[i] = (float)mel->hann[i];
}

void sur_mel_destroy(struct sur_mel **mel)
{
    if (!mel || !*mel) return;
    free((*mel)->filters);
    free((*mel)->weights);
    free(*mel);
    *mel = NULL;
}

/* Cooley-Tukey, 400 = 20 x 20. With n = 20 a + b and k = k1 + 20 k2:
 *     X[k] = sum_b W20^(b k2) * ( W400^(b k1) * sum_a W20^(a k1) x[20 a + b] )
 * Here the inner sums, turned: y[b][k1] for k1 < 12. Real input, so a and 20 - a share their cosine and sine. */
static void inner_sums(const struct sur_mel *mel, const double *x, double (*yr)[LANES], double (*yi)[LANES])
{
    double even[HALF + 1][RADIX], odd[HALF][RADIX];
    for (int b = 0; b < RADIX; b++) {
        even[0][b] = x[b];
        even[HALF][b] = x[HALF * RADIX + b];
        for (int a = 1; a < HALF; a++) {
            even[a][b] = x[RADIX * a + b] + x[RADIX * (RADIX - a) + b];
            odd[a][b] = x[RADIX * a + b] - x[RADIX * (RADIX - a) + b];
        }
    }
    for (int k = 0; k < LANES; k++) {
        double re[RADIX], im[RADIX] = {0};
        for (int b = 0; b < RADIX; b++) re[b] = even[0][b] + (k & 1 ? -even[HALF][b] : even[HALF][b]);
        for (int a = 1; a < HALF; a++) {
            double c = mel->cosine[a * k % RADIX], s = mel->sine[a * k % RADIX];
            for (int b = 0; b < RADIX; b++) {
                re[b] += c * even[a][b];
                im[b] -= s * odd[a][b];
            }
        }
        for (int b = 0; b < RADIX; b++) {
            double c = mel->twiddle_cos[b][k], s = mel->twiddle_sin[b][k];
            yr[b][k] = re[b] * c + im[b] * s;
            yi[b][k] = im[b] * c - re[b] * s;
        }
    }
}

/* |X[k]|^2 for k = 0..200. b and 20 - b share their cosine and sine, and so do k2 and 20 - k2: what they have in common
 * gives bins 20 k2 + k1 and, as the conjugate of 400 - k, 20 k2 - k1. Both for k1 <= 10: every bin. */
static void power_spectrum(const struct sur_mel *mel, const double *x, double *power)
{
    double yr[RADIX][LANES], yi[RADIX][LANES];
    inner_sums(mel, x, yr, yi);
    for (int b = 1; b < HALF; b++)
        for (int k = 0; k < LANES; k++) {
            double r = yr[b][k], i = yi[b][k], r2 = yr[RADIX - b][k], i2 = yi[RADIX - b][k];
            yr[b][k] = r + r2, yi[b][k] = i + i2;                 /* rows 1 to 9: the sums, times the cosines */
            yr[RADIX - b][k] = r - r2, yi[RADIX - b][k] = i - i2; /* rows 19 to 11: the differences, times the sines */
        }
    for (int k2 = 0; k2 <= HALF; k2++) {
        double p[LANES], q[LANES] = {0}, r[LANES], s[LANES] = {0}, sign = k2 & 1 ? -1 : 1;
        for (int k = 0; k < LANES; k++) {
            p[k] = yr[0][k] + sign * yr[HALF][k];
            r[k] = yi[0][k] + sign * yi[HALF][k];
        }
        for (int b = 1; b < HALF; b++) {
            double cosine = mel->cosine[b * k2 % RADIX], sine = mel->sine[b * k2 % RADIX];
            for (int k = 0; k < LANES; k++) {
                p[k] += cosine * yr[b][k];
                q[k] += sine * yi[RADIX - b][k];
                r[k] += cosine * yi[b][k];
                s[k] += sine * yr[RADIX - b][k];
            }
        }
        for (int k = 0; k <= HALF; k++) {
            int up = RADIX * k2 + k, down = RADIX * k2 - k;
            if (up < BINS) power[up] = (p[k] + q[k]) * (p[k] + q[k]) + (r[k] - s[k]) * (r[k] - s[k]);
            if (k && down > 0) power[down] = (p[k] - q[k]) * (p[k] - q[k]) + (r[k] + s[k]) * (r[k] + s[k]);
        }
    }
}

static void make_frame(const struct sur_mel *mel, float *out)
{
    double x[WINDOW], power[BINS];
    for (int i = 0; i < WINDOW; i++) x[i] = mel->frame[i] * mel->hann[i];
    power_spectrum(mel, x, power);
    for (int m = 0; m < mel->n_mels; m++) {
        const struct filter *f = &mel->filters[m];
        const double *w = mel->weights + f->offset, *p = power + f->first;
        double sum = 0;
        for (int i = 0; i < f->n; i++) sum += w[i] * p[i];
        out[m] = (float)((fmax(log10(fmax(sum, 1e-10)), mel->floor) + 4) / 4);
    }
}

size_t sur_mel_process(struct sur_mel *mel, const float *samples, size_t n, size_t *n_used, float *out,
                       size_t max_frames)
{
    size_t used = 0, frames = 0;
    for (;;) {
        if (mel->held == WINDOW) {
            if (frames == max_frames) break;
            make_frame(mel, out + frames++ * (size_t)mel->n_mels);
            mel->held = WINDOW - HOP;
            memmove(mel->frame, mel->frame + HOP, mel->held * sizeof *mel->frame);
        }
        size_t take = WINDOW - mel->held;
        if (take > n - used) take = n - used;
        if (take == 0) break;
        memcpy(mel->frame + mel->held, samples + used, take * sizeof *samples);
        mel->held += take;
        used += take;
    }
    *n_used = used;
    return frames;
}
