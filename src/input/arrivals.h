/* Detects losses between the blocks of a microphone from the times of their arrival. No I/O, no clock of its own.
 *
 * A late block may only have been delivered late: then the blocks recorded meanwhile follow faster than real time. So
 * one block decides nothing. The measure is how far the frames delivered so far are behind the clock. It grows with
 * each delay, shrinks when late blocks arrive, and keeps what was lost. Once it has grown, the caller holds blocks back
 * until half a second of audio has arrived in real time; the lowest value in that time is the loss, and its position is
 * known.
 *
 * The clock and the sound card drift: a slow change is followed and is not a loss. If the host API reports plausible
 * times of recording, a loss must show in them, too. Time in which the machine was suspended is a loss. */
#ifndef ARRIVALS_H
#define ARRIVALS_H

#include <stdbool.h>
#include <stdint.h>

enum { ARRIVALS_DELIVERED, ARRIVALS_RECORDED, ARRIVALS_CLOCKS };

struct arrivals_block {
    int64_t frames;               /* at the device's rate */
    int64_t now_ns;               /* time of delivery, monotonic clock */
    int64_t asleep_ns;            /* CLOCK_BOOTTIME less that clock: grows while the machine is suspended */
    double recorded_s, current_s; /* host API: time of the first frame, and now; 0: unknown */
    bool overflow;                /* host API: frames were lost before this block */
    bool reopened;                /* the first block of a new stream */
    int rate;                     /* of the device now, Hz */
};

/* To be followed in this order: record the loss before the oldest block held back or, if there is none, before this
 * block; release the blocks held back; hold this block back or not. */
struct arrivals_advice {
    int64_t lost;     /* frames at the capture's rate; 0: nothing */
    bool device;      /* lost while the device was away */
    bool release;     /* all blocks held back so far */
    bool hold;        /* this block and those after it, until release */
    bool first_moved; /* arrivals_first_ns has changed */
};

struct arrivals {
    int rate, device_rate;
    bool begun, lossy; /* lossy: frames were lost before */
    int64_t slept_ns, asleep_ns;
    int64_t sound_ns, frames; /* audio of earlier streams; frames of this one */
    int64_t lost_ns, lost;    /* in all; reported, in frames */
    /* how far the audio is behind each clock: expected; lowest of this window */
    int64_t expected_ns[ARRIVALS_CLOCKS], lowest_ns[ARRIVALS_CLOCKS];
    int64_t window;             /* frames */
    int64_t delay_ns;           /* by which delivery takes longer than at first, by the host API's times */
    bool sane, known;           /* the host API's times in this stream; the second expectation */
    double recorded_s;          /* of the block before */
    bool doubt, pinned, device; /* blocks are held back; the loss is before the oldest of them; the device was away */
    int64_t rise_ns, fallen_ns; /* the lowest rise in doubt; as it was when it last fell */
    int64_t steady;             /* frames since then */
    int64_t now_ns, doubt_ns;   /* of this block; when doubt began, or blocks were released */
};

void arrivals_init(struct arrivals *a, int rate); /* rate: of the capture, Hz, at which losses are counted */
struct arrivals_advice arrivals_look(struct arrivals *a, const struct arrivals_block *block);
/* The stream has ended: decides about the blocks held back. Sets only lost, device and release. */
struct arrivals_advice arrivals_settle(struct arrivals *a);
/* Time at which the first frame was recorded, by the clock of now_ns. Later blocks make it more exact, until a loss. */
int64_t arrivals_first_ns(const struct arrivals *a);

#endif
