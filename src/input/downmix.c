#include "input/downmix.h"

#include <string.h>

enum { WINDOWS_A_SECOND = 200 };
enum { ZERO_WINDOWS = 5 * WINDOWS_A_SECOND, QUIET_WINDOWS = 10 * WINDOWS_A_SECOND };
/* Loud windows until antiphase is assumed, and until it is reported; windows without it until it may be reported again.
 */
enum { ANTIPHASE_WINDOWS = 4, REPORT_WINDOWS = WINDOWS_A_SECOND / 2, AGAIN_WINDOWS = 10 * WINDOWS_A_SECOND };
/* How long a channel that carried a signal, or one of two, has to be far below the loudest before it is left out: a
 * cough next to another microphone, or stereo whose channels begin one after the other, must not count. Other channels
 * never carried a signal and are left out at once. */
enum { LEAVE_OUT_WINDOWS = 2 * WINDOWS_A_SECOND };

/* All are mean squares, or ratios of them. */
static const double quiet = 1e-6;       /* -60 dBFS: speech is louder */
static const double signal = 1e-5;      /* -50 dBFS: a channel above it carried a signal */
static const double comparable = 1e-7;  /* -70 dBFS: channels below it are compared only with digital zeros */
static const double far_below = 1e-2;   /* -20 dB: left out */
static const double near_enough = 4e-2; /* -14 dB: averaged again */
static const double two = 0.25;         /* a dead one of two costs 6 dB, so both limits are 6 dB lower */
static const double rise = 10;          /* the most that a level rises per window: a click is no signal */
static const double rise_from = 1e-8;   /* -80 dBFS */
static const double fall = 0.993116;    /* a level falls by 6 dB per second: it lasts from word to word */
static const double loud = 1e-2;        /* windows within 20 dB of the loudest level can show antiphase */
static const double least = 3e-9;       /* -85 dBFS: the lowest level that can show antiphase */
static const double fade = 0.99;        /* of the sums, per window: half a second */
static const double cancels = 1e-2;     /* the average is 20 dB below the channels */
static const double adds = 1e-1;        /* -10 dB: no antiphase any more */

void downmix_init(struct downmix *d, int rate, int channels, int channel)
{
    memset(d, 0, sizeof *d);
    d->n_channels = channels;
    d->only = channel - 1;
    d->window = (size_t)rate / WINDOWS_A_SECOND;
    d->one = -1;
    d->antiphase_ended = -AGAIN_WINDOWS;
    d->now.n = d->only >= 0 ? 1 : channels;
    for (int c = 0; c < d->now.n; c++) d->now.channels[c] = (uint8_t)(d->only >= 0 ? d->only : c);
    for (int e = 0; e < DOWNMIX_EVENTS; e++) atomic_init(&d->events[e], 0);
}

static void add_event(struct downmix *d, enum downmix_event event)
{
    atomic_fetch_add_explicit(&d->events[event], 1, memory_order_release);
}

/* ---- decisions, once per window ---- */

static double update_levels(struct downmix *d)
{
    double loudest = 0;
    for (int c = 0; c < d->n_channels; c++) {
        double e = d->energy[c] / (double)d->window, *level = &d->level[c];
        double most = (*level > rise_from ? *level : rise_from) * rise, held = *level * fall;
        *level = e > most ? most : e > held ? e : held;
        if (*level < 1e-20) *level = 0;
        if (*level > loudest) loudest = *level;
    }
    return loudest;
}

static void update_dead(struct downmix *d, double loudest)
{
    for (int c = 0; c < d->n_channels; c++) {
        double ratio = (d->dead[c] ? near_enough : far_below) * (d->n_channels == 2 ? two : 1),
               e = d->energy[c] / (double)d->window;
        double level =
            e > d->level[c] ? e : d->level[c]; /* a channel that becomes live is used from the next window on */
        bool below = loudest > 0 && (level == 0 || (loudest > comparable && level < loudest * ratio));
        bool patient = d->n_channels == 2 || d->level[c] > signal;
        d->below[c] = below ? d->below[c] + 1 : 0;
        if (!below)
            d->dead[c] = false;
        else if (d->below[c] >= (patient ? LEAVE_OUT_WINDOWS : 1))
            d->dead[c] = true;
    }
}

/* Returns the channel to use alone because of antiphase; -1: none. */
static void update_antiphase(struct downmix *d, double loudest)
{
    double channels = 0;
    int live = 0, best = 0;
    for (int c = 0; c < d->n_channels; c++) {
        if (d->dead[c]) continue;
        channels += d->energy[c] / (double)d->window;
        if (d->level[c] > d->level[best] || d->dead[best]) best = c;
        live++;
    }
    channels /= live;
    if (live > 1 && channels > least && channels > loudest * loud) {
        d->sum_channels = d->sum_channels * fade + channels;
        d->sum_average = d->sum_average * fade + d->average_energy / (double)d->window;
        d->loud_windows++;
        d->antiphase_windows = d->one >= 0 && channels > quiet ? d->antiphase_windows + 1 : 0;
    }
    if (d->antiphase_windows == REPORT_WINDOWS && d->windows - d->antiphase_ended >= AGAIN_WINDOWS)
        add_event(d, DOWNMIX_ANTIPHASE);
    if (d->one < 0 && live > 1 && d->loud_windows >= ANTIPHASE_WINDOWS && d->sum_average < d->sum_channels * cancels) {
        d->one = best;
    } else if (d->one >= 0 && (live == 1 || d->dead[d->one] || d->sum_average > d->sum_channels * adds)) {
        if (d->antiphase_windows >= REPORT_WINDOWS) d->antiphase_ended = d->windows;
        d->one = -1;
        d->antiphase_windows = 0;
    }
}

static bool is_live(const struct downmix *d, int channel)
{
    return d->one >= 0 ? channel == d->one : !d->dead[channel];
}

static void choose(struct downmix *d)
{
    double loudest = update_levels(d);
    update_dead(d, loudest);
    update_antiphase(d, loudest);
    struct downmix_set set = {0};
    for (int c = 0; c < d->n_channels; c++)
        if (is_live(d, c)) set.channels[set.n++] = (uint8_t)c;
    d->fades = set.n != d->now.n || memcmp(set.channels, d->now.channels, (size_t)set.n) != 0;
    d->before = d->now;
    d->now = set;
}

static void watch_silence(struct downmix *d)
{
    double most = 0;
    for (int c = 0; c < d->n_channels; c++)
        if ((d->only < 0 || c == d->only) && d->energy[c] > most) most = d->energy[c];
    d->zeros = most == 0 ? d->zeros + 1 : 0;
    if (most > 0) d->not_zero_once = true;
    if (most > quiet * (double)d->window) d->loud_once = true;
    if (d->zeros == ZERO_WINDOWS) add_event(d, DOWNMIX_ZEROS);
    if (!d->loud_once && d->not_zero_once && d->windows == QUIET_WINDOWS) add_event(d, DOWNMIX_QUIET);
}

static void end_window(struct downmix *d)
{
    d->windows++;
    watch_silence(d);
    d->fades = false;
    if (d->only < 0 && d->n_channels > 1) choose(d);
    memset(d->energy, 0, sizeof d->energy);
    d->average_energy = 0;
    d->at = 0;
}

/* ---- samples ---- */

static float average(const struct downmix_set *set, const float *frame)
{
    float sum = 0;
    for (int i = 0; i < set->n; i++) sum += frame[set->channels[i]];
    return set->n == 1 ? sum : sum / (float)set->n;
}

/* While one channel is used because of antiphase, the average of the live channels is still measured. */
static double live_average(const struct downmix *d, const float *frame, float mixed)
{
    float sum = 0;
    int n = 0;
    if (d->one < 0 && !d->fades) return (double)mixed;
    for (int c = 0; c < d->n_channels; c++) {
        if (d->dead[c]) continue;
        sum += frame[c];
        n++;
    }
    return (double)(sum / (float)n);
}

void downmix_run(struct downmix *d, const float *frames, size_t n, float *mono)
{
    const int channels = d->n_channels;
    for (size_t i = 0; i < n; i++, frames += channels) {
        float mixed = average(&d->now, frames);
        for (int c = 0; c < channels; c++) d->energy[c] += (double)frames[c] * (double)frames[c];
        if (d->only < 0 && channels > 1) {
            double a = live_average(d, frames, mixed);
            d->average_energy += a * a;
        }
        if (d->fades) {
            float old = average(&d->before, frames);
            mixed = old + (mixed - old) * ((float)(d->at + 1) / (float)d->window);
        }
        mono[i] = mixed;
        if (++d->at == d->window) end_window(d);
    }
}

void downmix_end(struct downmix *d)
{
    for (int c = 0; c < d->n_channels; c++) {
        if (d->only >= 0 && c != d->only) continue;
        if (d->energy[c] > 0) d->not_zero_once = true;
        if (d->energy[c] > quiet * (double)d->at) d->loud_once = true;
    }
    bool short_zeros = !d->not_zero_once && d->windows < ZERO_WINDOWS;
    bool short_quiet = d->not_zero_once && !d->loud_once && d->windows < QUIET_WINDOWS;
    if (short_zeros) add_event(d, DOWNMIX_ZEROS);
    if (short_quiet) add_event(d, DOWNMIX_QUIET);
}

/* ---- any thread ---- */

enum downmix_event downmix_poll(struct downmix *d)
{
    for (int e = DOWNMIX_NOTHING + 1; e < DOWNMIX_EVENTS; e++) {
        unsigned n = atomic_load_explicit(&d->events[e], memory_order_acquire);
        while (n > 0)
            if (atomic_compare_exchange_weak_explicit(&d->events[e], &n, n - 1, memory_order_acq_rel,
                                                      memory_order_acquire))
                return (enum downmix_event)e;
    }
    return DOWNMIX_NOTHING;
}

const char *downmix_text(enum downmix_event event)
{
    static const char *const texts[DOWNMIX_EVENTS] = {
        [DOWNMIX_NOTHING] = "",
        [DOWNMIX_ZEROS] = "gives nothing but zeros: is it muted, or does nothing play there?",
        [DOWNMIX_QUIET] = "is below -60 dBFS, too quiet to be speech: is it the right input?",
        [DOWNMIX_ANTIPHASE] = "has channels that cancel each other (antiphase): only one of them is used",
    };
    return texts[event];
}
