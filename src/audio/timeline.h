/* From positions in a stream to the clock: the list of what was lost, and of silence that was put in. Pure.
 *
 * A position counts what is in the stream, the clock counts what has passed: the clock is ahead by all losses before a
 * position. Positions, clock and losses have one unit, which the caller chooses (samples, frames).
 *
 * One writer and one reader, each in a thread of its own; neither blocks, allocates or makes a system call. The writer
 * appends a loss before it publishes the samples that follow it, so a reader that has such a sample finds the loss.
 * Memory is constant: the reader takes each loss once, in order, and only the sum of those taken is kept. */
#ifndef SUR_AUDIO_TIMELINE_H
#define SUR_AUDIO_TIMELINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { SUR_TIMELINE_LOSSES = 64 }; /* that may wait to be taken */

struct sur_loss {
    int64_t at;     /* the position of what follows it */
    int64_t n;      /* how much is missing there */
    int64_t filler; /* > 0: no loss, but silence that was put in before `at`; a loss at `at` accounts for it */
    int why;        /* the caller's */
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
    int64_t at, ahead;        /* reader: place of the last loss taken; how far the clock is ahead from there on */
    int64_t lost;             /* reader: the sum of all losses taken, silence that they account for included */
};

/* Writer. Losses are appended in the order of their places. False: too many wait to be taken, and nothing was added. */
bool sur_timeline_lose(struct sur_timeline *t, int64_t at, int64_t n, int why);
/* Writer. The n positions before `at` hold silence that was put in. On the clock no time passes in them until the next
 * loss is appended, which must be at `at`, and which lasts n at least. Room for that loss is kept. */
bool sur_timeline_fill(struct sur_timeline *t, int64_t at, int64_t n);

/* Reader. Takes the oldest loss if its place is before `position`; silence whose loss has not been appended stays. */
bool sur_timeline_take(struct sur_timeline *t, int64_t position, struct sur_lost_time *lost);
/* Reader. The clock at a position; it never runs back before the end of the last loss taken. Losses that have not been
 * taken do not count, so take those before a position first. */
int64_t sur_timeline_clock(const struct sur_timeline *t, int64_t position);
/* Reader. How many losses wait to be taken. */
int sur_timeline_waiting(const struct sur_timeline *t);

#endif
