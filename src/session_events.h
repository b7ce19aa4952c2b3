/* From decoder steps to events: bytes to text, words to groups, positions in the stream to times, and the queue from
 * which the caller polls. Decode thread only, but for `skipped` and `fd`. */
#ifndef SUR_SESSION_EVENTS_H
#define SUR_SESSION_EVENTS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "audio/timeline.h"
#include "model/backend.h"
#include "text/assemble.h"
#include "text/tekken.h"

struct sur_queued_event;

struct sur_events {
    const struct sur_tekken *tekken;
    struct sur_timeline *timeline; /* losses are taken from it */
    struct sur_assembler assembler;
    struct sur_queued_event *queue; /* a ring */
    uint64_t n_in, n_out;
    int fd;                  /* eventfd, readable while events wait; immutable after init; -1: none */
    _Atomic int64_t skipped; /* samples of skips that became events; any thread reads */
};

/* events: zeroed but for fd = -1; finish takes it in any case. SUR_ERR_MEMORY, SUR_ERR_IO. */
int sur_events_init(struct sur_events *events, const struct sur_tekken *tekken, struct sur_timeline *timeline);
void sur_events_finish(struct sur_events *events);
/* Whether the queue has room for all events of one step, or of the end. */
bool sur_events_have_room(const struct sur_events *events);
/* Appends what follows from step number `step` with this result. */
void sur_events_step(struct sur_events *events, int64_t step, const struct sur_step_out *out);
/* Appends what is still open, and the end, after n_samples of the stream and n_steps steps. */
void sur_events_end(struct sur_events *events, int64_t n_steps, int64_t n_samples);
/* As sur_session_poll. */
int sur_events_poll(struct sur_events *events, struct sur_event *event);

#endif
