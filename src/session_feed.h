/* The feed side of a session: samples in any format to mono floats in a ring, skips, and a flush's silence.
 *
 * All functions are for the feed thread; none blocks, allocates after init, or makes a system call. The encode thread
 * reads the ring and `ended`. */
#ifndef SUR_SESSION_FEED_H
#define SUR_SESSION_FEED_H

#include <stdatomic.h>
#include <stdbool.h>

#include "audio/ring.h"
#include "audio/timeline.h"
#include "surtitle.h"

struct sur_feed {
    /* immutable after init */
    int rate, channels;
    enum sur_sample_format format;
    int64_t flush_samples;         /* at 16 kHz: what a flush puts in */
    struct sur_timeline *timeline; /* skips and silence are appended to it */
    struct sur_ring *ring;         /* mono, at the source's rate; encode reads */

    /* feed thread */
    int64_t skip_asked;   /* samples in all; at most SUR_MAX_SKIP */
    bool flushed;         /* silence was put in, and no sample has followed yet */
    bool flush_accounted; /* a skip has been appended that covers it */
    int64_t silence_left; /* frames of it that the ring had no room for yet */

    /* feed releases, encode acquires */
    atomic_bool ended; /* no sample follows those in the ring */
    /* feed writes, any thread reads */
    _Atomic int64_t n_silence; /* samples of silence in all, at 16 kHz */
};

/* feed: zeroed; finish takes it in any case. SUR_ERR_MEMORY. */
int sur_feed_init(struct sur_feed *feed, const struct sur_session_options *options, int64_t flush_samples,
                  struct sur_timeline *timeline);
void sur_feed_finish(struct sur_feed *feed);

/* As sur_session_feed, sur_session_skip, sur_session_flush, sur_session_finish (surtitle.h). */
size_t sur_feed_put(struct sur_feed *feed, const void *frames, size_t n_frames);
int sur_feed_skip(struct sur_feed *feed, int64_t n_samples, enum sur_skip_reason why);
int sur_feed_flush(struct sur_feed *feed);
void sur_feed_end(struct sur_feed *feed);

#endif
