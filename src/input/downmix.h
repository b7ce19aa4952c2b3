/* Interleaved frames of 1 to 64 channels to mono. Part of the program; used wherever samples enter it: capture_put
 * (microphone, pipe, paced file) and whole files.
 *
 * One channel that the caller names, or the average of the channels that live: a channel is left out while it holds
 * digital zeros, or a level that is far below the loudest channel. Plain mono, and stereo whose channels both live,
 * give the exact bits of the plain average. Where the channels cancel each other (antiphase), the loudest one is taken.
 *
 * Decisions are made on windows of 5 ms counted from the first frame, and a window uses what was heard before it: how
 * frames are cut into calls never changes a bit, and nothing is delayed. A change is a fade over one window. */
#ifndef SUR_AUDIO_DOWNMIX_H
#define SUR_AUDIO_DOWNMIX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "surtitle.h"

/* Things that a person wants to know, each returned once per event by downmix_poll. */
enum downmix_event {
    DOWNMIX_NOTHING = 0,
    DOWNMIX_ZEROS,     /* nothing but digital zeros for 5 s; again after any other sample and 5 s more of zeros */
    DOWNMIX_QUIET,     /* nothing above -60 dBFS in the first 10 s, or at all */
    DOWNMIX_ANTIPHASE, /* the channels cancel each other, so one of them is taken; again 10 s after its end */
    DOWNMIX_EVENTS
};

struct downmix_set {
    int n;
    uint8_t channels[SUR_CHANNELS_MAX];
};

/* The caller's memory. */
struct downmix {
    /* immutable after init */
    int n_channels, only; /* only: the channel to take, from 0; -1: those that live */
    size_t window;        /* frames */
    /* the thread that calls downmix_run */
    size_t at; /* frames of the current window */
    bool fades;
    struct downmix_set now, before;      /* averaged in this window, and in the one before it */
    double energy[SUR_CHANNELS_MAX]; /* sum of squares in this window */
    double average_energy;               /* of the average of the live channels, in this window */
    double level[SUR_CHANNELS_MAX];  /* mean square; rises fast and falls slowly */
    int below[SUR_CHANNELS_MAX];     /* windows far below the loudest channel, in a row */
    bool dead[SUR_CHANNELS_MAX];
    double sum_channels, sum_average;        /* mean squares of loud windows, fading: antiphase shows in their ratio */
    int one;                                 /* the channel that antiphase leaves; -1: none */
    int64_t loud_windows, antiphase_windows; /* antiphase_windows: loud ones in a row */
    int64_t windows, antiphase_ended;        /* counts of windows */
    int64_t zeros;                           /* windows of zeros in a row, up to now */
    bool heard, heard_any;                   /* a window above -60 dBFS; a sample that is not zero */
    /* any thread: events that happened (added by the running thread, release) and were not returned (downmix_poll,
     * acquire) */
    atomic_uint events[DOWNMIX_EVENTS];
};

/* rate in Hz, 1000 or more; channels 1 to 64; channel: the one to take, counted from 1, or 0 for those that live. */
void downmix_init(struct downmix *d, int rate, int channels, int channel);
/* n frames [n, channels] to n samples; mono may be the same memory as frames. Neither blocks, locks, allocates nor
 * makes a system call: it may run in an audio callback. */
void downmix_run(struct downmix *d, const float *frames, size_t n, float *mono);
/* The same thread: no frames follow. What was nothing but zeros, or too quiet from beginning to end, becomes an event
 * however short it was. */
void downmix_end(struct downmix *d);

/* Any thread. An event that was not returned yet, or DOWNMIX_NOTHING. */
enum downmix_event downmix_poll(struct downmix *d);
/* What an event means, to be put behind the name of the source: "gives nothing but zeros: ..." */
const char *downmix_text(enum downmix_event event);

#endif
