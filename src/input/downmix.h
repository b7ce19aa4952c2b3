/* Converts interleaved frames of 1 to 64 channels to mono, wherever samples enter the program: in capture_put and for
 * whole files.
 *
 * Uses the channel that the caller selects, or the average of the live channels. A channel is not live while it holds
 * digital zeros, or its level is far below that of the loudest channel. Mono, and stereo with two live channels, give
 * exactly the bits of the plain average. If the channels cancel each other (antiphase), the loudest one is used.
 *
 * Decisions are made per window of 5 ms, counted from the first frame, and take effect in the next window, by a fade
 * over that window. So nothing is delayed, and the division of frames into calls never changes a bit. */
#ifndef DOWNMIX_H
#define DOWNMIX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "surtitle.h"

/* Findings for the user; downmix_poll returns each of them once. */
enum downmix_event {
    DOWNMIX_NOTHING = 0,
    DOWNMIX_ZEROS,     /* 5 s of digital zeros; again after another sample and 5 s more of zeros */
    DOWNMIX_QUIET,     /* nothing above -60 dBFS in the first 10 s, or at all */
    DOWNMIX_ANTIPHASE, /* the channels cancel each other, so one of them is used; again 10 s after its end */
    DOWNMIX_EVENTS
};

struct downmix_set {
    int n;
    uint8_t channels[SUR_CHANNELS_MAX];
};

/* The caller's memory. */
struct downmix {
    /* immutable after init */
    int n_channels, only; /* only: the channel to use, from 0; -1: the live ones */
    size_t window;        /* frames */
    /* the thread that calls downmix_run */
    size_t at; /* frames of the current window */
    bool fades;
    struct downmix_set now, before;  /* averaged in this window, and in the one before it */
    double energy[SUR_CHANNELS_MAX]; /* sum of squares in this window */
    double average_energy;           /* of the average of the live channels, in this window */
    double level[SUR_CHANNELS_MAX];  /* mean square; rises fast and falls slowly */
    int below[SUR_CHANNELS_MAX];     /* windows far below the loudest channel, in a row */
    bool dead[SUR_CHANNELS_MAX];
    double sum_channels, sum_average;        /* mean squares of loud windows, fading: antiphase shows in their ratio */
    int one;                                 /* the channel that antiphase leaves; -1: none */
    int64_t loud_windows, antiphase_windows; /* antiphase_windows: loud ones in a row */
    int64_t windows, antiphase_ended;        /* counts of windows */
    int64_t zeros;                           /* windows of zeros in a row, up to now */
    bool loud_once, not_zero_once;           /* a window above -60 dBFS; a sample that is not zero */
    /* any thread: events that happened (added by the running thread, release) and were not returned (downmix_poll,
     * acquire) */
    atomic_uint events[DOWNMIX_EVENTS];
};

/* rate: 1000 Hz or more. channels: 1 to 64. channel: the one to use, counted from 1; 0: the live ones. */
void downmix_init(struct downmix *d, int rate, int channels, int channel);
/* frames [n, channels] to mono [n], which may be the same memory. RT safe: does not block, lock, allocate or make a
 * system call. */
void downmix_run(struct downmix *d, const float *frames, size_t n, float *mono);
/* The same thread as downmix_run: no frames follow. An input that was digital silence or too quiet from beginning to
 * end becomes an event, however short it was. */
void downmix_end(struct downmix *d);

/* Any thread. Returns an event that was not returned before, or DOWNMIX_NOTHING. */
enum downmix_event downmix_poll(struct downmix *d);
/* A predicate for the name of the source: "gives nothing but zeros: ..." */
const char *downmix_text(enum downmix_event event);

#endif
