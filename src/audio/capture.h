/* What was heard and is not worked off yet: mono samples at the source's rate, and beside them a ring of blocks that
 * says when each came and what was lost before it. Part of the program.
 *
 * One producer (a capture callback, or the thread that reads a file or a pipe) and one consumer (the encode thread);
 * both rings are lock-free. The calls marked RT neither block, lock, allocate nor make a system call. */
#ifndef CAPTURE_H
#define CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audio/downmix.h"

struct capture;

enum capture_loss { CAPTURE_GAP, CAPTURE_DEVICE };

/* The oldest samples, contiguous, all of one block. */
struct capture_piece {
    const float *samples; /* mono; valid until they are taken */
    size_t n;
    int64_t entry_ns; /* when the block came: entry to the callback, return of the read */
    int64_t lost[2];  /* frames lost before the block, by enum capture_loss; said once */
};

/* seconds: what the ring holds at least; rate in Hz. SUR_ERR_MEMORY. */
int capture_create(struct capture **capture, int rate, double seconds);
void capture_destroy(struct capture **capture);

/* Producer, RT. Takes n interleaved frames, of which mix makes mono samples, as one block; false if there is no room:
 * nothing is taken and mix is as it was. */
bool capture_put(struct capture *c, struct downmix *mix, const float *frames, size_t n, int64_t entry_ns);
/* Producer, RT. Frames that were lost here; told with the next block. */
void capture_lose(struct capture *c, enum capture_loss why, int64_t frames);
void capture_end(struct capture *c); /* producer: nothing more will come */

/* Consumer. False: there is nothing now. */
bool capture_peek(struct capture *c, struct capture_piece *piece);
void capture_take(struct capture *c, size_t n); /* consumer: the first n samples of the piece are done with */
/* Consumer: nothing is left, and nothing more will come. */
bool capture_ended(struct capture *c);

/* Any thread. */
int64_t capture_waiting(const struct capture *c); /* frames put and not taken */
int64_t capture_lost(const struct capture *c);    /* frames lost in all */
int64_t capture_put_in_all(const struct capture *c);

#endif
