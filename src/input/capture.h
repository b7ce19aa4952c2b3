/* Captured audio that has not been encoded yet: a ring of mono samples at the source's rate, a ring of blocks with
 * their times of arrival, and a timeline of losses.
 *
 * Thread-safety: one producer (the microphone's callback, or the reader thread) and one consumer (the encode thread),
 * without locks. RT safe: the call does not block, lock, allocate or make a system call. */
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
    int64_t entry_ns; /* arrival of the block: entry of the callback, return of the read */
    int64_t lost[3];  /* frames lost before these, by enum sur_skip_reason; reported once */
};

/* seconds: least capacity. rate: Hz. SUR_OK, or SUR_ERR_MEMORY with a line (util/failure.h). */
int capture_create(struct capture **capture, int rate, double seconds);
void capture_destroy(struct capture **capture);

/* Producer. RT safe. Stores n interleaved frames, made mono by mix, as one block. Returns false if there is not enough
 * space: then nothing is stored, and mix is unchanged. */
bool capture_put(struct capture *c, struct downmix *mix, const float *frames, size_t n, int64_t entry_ns);
/* Producer. RT safe. Records a loss before the oldest block that is held back or, if there is none, before the next
 * block; the consumer gets it with that block. */
void capture_lose(struct capture *c, enum sur_skip_reason why, int64_t frames);
/* Producer. RT safe. Until capture_release the next blocks are hidden from the consumer, so that a loss can still be
 * recorded before them. */
void capture_hold(struct capture *c);
void capture_release(struct capture *c);
void capture_set_first_wall(struct capture *c, int64_t wall_ns); /* producer; RT safe */
void capture_end(struct capture *c);                             /* producer: no block follows */

/* Consumer. Returns false if no block is available. */
bool capture_peek(struct capture *c, struct capture_piece *piece);
void capture_take(struct capture *c, size_t n); /* consumer: frees the first n samples of the piece */
/* Consumer. Whether nothing is left and no block follows. */
bool capture_ended(struct capture *c);

/* Any thread; in frames. */
int64_t capture_waiting(const struct capture *c);   /* available to the consumer */
int64_t capture_lost(const struct capture *c);      /* total of losses */
int64_t capture_delivered(const struct capture *c); /* total stored */
int64_t capture_clock(const struct capture *c);     /* time that has passed: delivered and lost */
int64_t
capture_back(const struct capture *c); /* capture_clock at the last return of the device; 0: it was never lost */
int64_t capture_first_wall(const struct capture *c); /* ns since 1970 when the first frame was recorded; 0: unknown */

#endif
