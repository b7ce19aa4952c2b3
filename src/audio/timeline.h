/* From positions in a stream to the clock: the list of losses and of inserted silence.
 *
 * A position counts samples in the stream, the clock counts time that has passed: the clock is ahead by all losses
 * before a position. Positions, clock and losses have the same unit, which the caller chooses (samples, frames).
 *
 * Threads: one writer and one reader. RT safe: neither blocks, allocates or makes a system call. The writer appends a
 * loss before it publishes the samples that follow it, so a reader that has such a sample finds the loss. Memory is
 * constant: the reader takes each loss once, in order, and only the sum of those taken is kept. */
#ifndef SUR_AUDIO_TIMELINE_H
#define SUR_AUDIO_TIMELINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { SUR_TIMELINE_LOSSES = 64 }; /* most losses that wait to be taken */

struct sur_loss {
    int64_t at;     /* position of the sample that follows */
    int64_t n;      /* samples that are missing there */
    int64_t filler; /* > 0: instead of a loss, silence that was inserted before `at`; a loss at `at` covers it */
    int why;        /* reason, defined by the caller */
};

/* A loss on the clock. */
struct sur_lost_time {
    int64_t t0, t1;
    int why;
};

struct sur_timeline {
    struct sur_loss losses[SUR_TIMELINE_LOSSES];
    _Atomic uint64_t written; /* writer: release, reader: acquire */
    _Atomic uint64_t taken;   /* reader: release, writer: acquire */
    int64_t at, ahead;        /* reader: position of the last loss taken; how far the clock is ahead from there on */
    int64_t lost;             /* reader: sum of all losses taken, with the silence that they cover */
};

/* Writer. Appends a loss; positions must not decrease. False: too many losses wait, and nothing was appended. */
bool sur_timeline_lose(struct sur_timeline *t, int64_t at, int64_t n, int why);
/* Writer. Marks the n positions before `at` as inserted silence. On the clock no time passes in them until the next
 * loss is appended, which must be at `at` and then lasts at least n. Room for that loss is kept. False as above. */
bool sur_timeline_fill(struct sur_timeline *t, int64_t at, int64_t n);

/* Reader. Takes the oldest loss if it lies before `position`; silence whose loss has not been appended stays. */
bool sur_timeline_take(struct sur_timeline *t, int64_t position, struct sur_lost_time *lost);
/* Reader. Returns the clock at a position, never before the end of the last loss taken. Losses that were not taken do
 * not count, so take those before the position first. */
int64_t sur_timeline_clock(const struct sur_timeline *t, int64_t position);
/* Reader. Returns the number of losses that wait to be taken. */
int sur_timeline_waiting(const struct sur_timeline *t);

#endif
