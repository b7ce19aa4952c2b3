/* What is missing between the blocks of a microphone, found from when they came. Pure. Part of the program.
 *
 * A block that comes late may only have been delivered late: then what was recorded meanwhile comes right after it,
 * faster than in real time. So nothing is decided by a single block. What counts is how far the frames delivered so far
 * are behind the clock. That grows with every delay, shrinks again when late blocks come, and keeps what was lost. When
 * it has grown, the caller holds blocks back until half a second of sound has come at the speed of sound; then the
 * lowest value of that time is the loss, and its place is known.
 *
 * The clock and the sound card differ: a slow change is followed and is no loss. Where the host API says sensibly when
 * a block was recorded, a loss has to show in those times, too. Time in which the machine was suspended is a loss. */
#ifndef ARRIVALS_H
#define ARRIVALS_H

#include <stdbool.h>
#include <stdint.h>

enum { ARRIVALS_DELIVERED, ARRIVALS_RECORDED, ARRIVALS_CLOCKS };

struct arrivals_block {
    int64_t frames;               /* at the device's rate */
    int64_t now_ns;               /* delivered, by the monotonic clock */
    int64_t asleep_ns;            /* how far CLOCK_BOOTTIME is ahead of that clock: it goes on in a suspended machine */
    double recorded_s, current_s; /* host API: when the first frame was recorded, and the time now; 0: unknown */
    bool overflow;                /* host API: something was lost before this block */
    bool reopened;                /* the first block of another stream */
    int rate;                     /* of the device now, Hz */
};

/* In this order: append the loss, before the oldest block held back, or else before this one; release the blocks held
 * back; hold back or release this one. */
struct arrivals_advice {
    int64_t lost;     /* frames at the capture's rate; 0: nothing */
    bool device;      /* they were lost with the device */
    bool release;     /* all blocks held back so far */
    bool hold;        /* this block and those after it, until release */
    bool first_moved; /* arrivals_first_ns has changed */
};

struct arrivals {
    int rate, device_rate;
    bool begun, lossy; /* lossy: something was lost before */
    int64_t slept_ns, asleep_ns;
    int64_t sound_ns, frames; /* sound of earlier streams; frames of this one */
    int64_t lost_ns, lost;    /* in all; told, in frames */
    /* how far the sound is behind each clock: what is expected, and the lowest of this window */
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

void arrivals_init(struct arrivals *a, int rate); /* rate: of the capture, Hz; the sum of losses is exact at it */
struct arrivals_advice arrivals_look(struct arrivals *a, const struct arrivals_block *block);
/* The stream has ended: decides about what is held back. Only lost, device and release are set. */
struct arrivals_advice arrivals_settle(struct arrivals *a);
/* When the first frame was recorded, by the clock of now_ns; later blocks make it more exact, until something is lost.
 */
int64_t arrivals_first_ns(const struct arrivals *a);

#endif
