/* A live run in threads (docs/realtime.md):
 *
 *   reader thread, or the microphone's callback > capture > encode thread > session > main thread: decode, poll, write
 *
 * No thread spins: one that has nothing to do sleeps on a descriptor. All calls are the main thread's. */
#ifndef LIVE_H
#define LIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/encoder.h"
#include "cli/latency.h"
#include "cli/reader.h"

struct live {
    /* The caller sets both parts as reader.h and encoder.h say, but for the descriptors and encoder.reader.
     * reader.source NULL: a microphone fills the capture. */
    struct reader reader;
    struct encoder encoder;

    int decode_wake;
    bool stopping;
    int64_t n_written; /* steps */
    struct latency latency;
};

/* SUR_ERR_IO or SUR_ERR_MEMORY with a line (util/failure.h); live_finish in any case. */
int live_start(struct live *live);
/* One decoder step: SUR_OK (then poll, write, live_note_written), SUR_AGAIN (live_wait), SUR_END, or a failure, whose
 * line live_error returns. */
int live_decode(struct live *live);
void live_note_written(struct live *live); /* the text of the last step has been written */
/* Sleeps until there may be something to decode, a signal comes, or timeout_ns have passed. */
void live_wait(struct live *live, int64_t timeout_ns);
void live_stop_reading(struct live *live); /* nothing more is read; what was captured is still captioned */
const char *live_error(const struct live *live);
/* Ends and joins the threads, whatever they are doing. Takes a zeroed struct. */
void live_finish(struct live *live);

#endif
