/* What was heard and is not worked off yet: mono samples at the source's rate, beside them a ring of blocks that says
 * when each came, and a timeline of what was lost. Part of the program.
 *
 * One producer (a capture callback, or the thread that reads a file or a pipe) and one consumer (the encode thread);
 * all three are lock-free. The calls marked RT neither block, lock, allocate nor make a system call. */
#ifndef CAPTURE_H
#define CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "input/downmix.h"
#include "surtitle.h"

struct capture;

/* The oldest samples, contiguous, all of one block. */
struct capture_piece {
    const float *samples; /* mono; valid until they are taken */
    size_t n;
    int64_t entry_ns; /* when the block came: entry to the callback, return of the read */
    int64_t lost[3];  /* frames lost before these, by enum sur_skip_reason; said once */
};

/* seconds: what the ring holds at least; rate in Hz. SUR_ERR_MEMORY. */
int capture_create(struct capture **capture, int rate, double seconds);
void capture_destroy(struct capture **capture);

/* Producer, RT. Takes n interleaved frames, of which mix makes mono samples, as one block; false if there is no room:
 * nothing is taken and mix is as it was. */
bool capture_put(struct capture *c, struct downmix *mix, const float *frames, size_t n, int64_t entry_ns);
/* Producer, RT. Frames that were lost before the oldest block held back, or else before the next one; told with it. */
void capture_lose(struct capture *c, enum sur_skip_reason why, int64_t frames);
/* Producer, RT. Holds the next blocks back, so that a loss can still be put before them, until capture_release. */
void capture_hold(struct capture *c);
void capture_release(struct capture *c);
void capture_set_first_wall(struct capture *c, int64_t wall_ns); /* producer, RT */
void capture_end(struct capture *c);                             /* producer: nothing more will come */

/* Consumer. False: there is nothing now. */
bool capture_peek(struct capture *c, struct capture_piece *piece);
void capture_take(struct capture *c, size_t n); /* consumer: the first n samples of the piece are done with */
/* Consumer: nothing is left, and nothing more will come. */
bool capture_ended(struct capture *c);

/* Any thread; frames. */
int64_t capture_waiting(const struct capture *c); /* put, not held back and not taken */
int64_t capture_lost(const struct capture *c);    /* lost in all */
int64_t capture_delivered(const struct capture *c);
int64_t capture_clock(const struct capture *c);      /* what has passed: put and lost in all */
int64_t capture_back(const struct capture *c);       /* that clock where the device was back last; 0: it was not lost */
int64_t capture_first_wall(const struct capture *c); /* ns since 1970 when the first frame was recorded; 0: unknown */

#endif
