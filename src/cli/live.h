/* Captions as sound comes, in threads (docs/realtime.md):
 *
 *   source, or the microphone's callback > capture > encode thread > session > the caller's thread: decode, poll, write
 *
 * The caller's thread is the main one. No thread spins: one that has nothing to do sleeps on a descriptor. */
#ifndef LIVE_H
#define LIVE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/lag.h"
#include "cli/latency.h"
#include "input/capture.h"
#include "input/source.h"
#include "surtitle.h"

enum {
    LIVE_ARRIVALS = 512, /* tokens between encode and decode, at most 256, and room */
    LIVE_AHEAD = 8,      /* tokens that encode may be ahead: what is behind must show in the backlog */
};

struct live {
    /* set by the caller before live_start, then immutable */
    struct sur_session *session; /* one channel of SUR_F32LE at `rate` */
    struct capture *capture;
    int rate;
    struct downmix *mix; /* the caller's; for source, NULL without one */
    struct source
        *source;   /* read in a thread of its own; NULL: the microphone puts into capture, and wakes no thread */
    float *frames; /* [max_frames, channels]; n_frames of them have been read */
    size_t max_frames, n_frames;
    bool waits;     /* for a source: it is a pipe or the like, whose writer may be slow */
    double pace;    /* 0: as fast as it comes; 1: as fast as it was spoken */
    double max_lag; /* seconds; 0: nothing is dropped */
    int delay_ms;   /* of the session */
    bool realtime;  /* the encode thread may ask for real-time priority */

    /* of the threads; the caller leaves them alone */
    pthread_t reader, encoder;
    bool reading, encoding; /* the threads exist */
    int encode_wake, decode_wake, space_wake;
    atomic_bool stop_reading, abandon, reader_waits, encoder_waits, reader_done;
    atomic_int encode_status; /* negative: it failed; released after encode_error */
    atomic_bool rests;        /* encode: the source stands still, and all that was said has been encoded */
    char encode_error[512];

    /* reader thread; after its end the caller's */
    int read_status;      /* enum source_status */
    char read_error[512]; /* the line of a failure */
    int64_t start_ns, frames_read;

    /* encode thread; after its end the caller's */
    struct lag lag;
    struct lag_speed speed;
    int64_t fed_frames;
    int64_t missing[3], told[3];     /* by enum sur_skip_reason: frames; those told as skips, at 16 kHz */
    int64_t waited_ns;               /* for samples since some were fed; time in which we were stopped less */
    bool flushed;                    /* since some were fed */
    int64_t entry_ns, last_block_ns; /* of the block fed last; how long it was */
    int64_t longest_block, longest_held, n_lag_skips;
    bool finished;
    _Atomic float level;                     /* loudness of what was fed last, 0 to 1; for who shows it */
    _Atomic int64_t backlog;                 /* 16 kHz samples, as the policy saw it last */
    _Atomic int64_t arrivals[LIVE_ARRIVALS]; /* entry_ns of a token's last sample; 0: none, -1: while starting */

    /* the caller's thread */
    bool stopping;
    int64_t n_written;
    struct latency latency;
};

/* SUR_ERR_IO or SUR_ERR_MEMORY with a line; then live_finish, too. */
int live_start(struct live *live);
/* One decoder step: SUR_OK (poll, write, live_note_written), SUR_AGAIN (live_wait), SUR_END, or a failure, told by
 * live_error. */
int live_decode(struct live *live);
void live_note_written(struct live *live); /* what the last step said is out */
/* Sleeps until there may be something to decode, a signal comes, or timeout_ns have passed. */
void live_wait(struct live *live, int64_t timeout_ns);
void live_stop_reading(struct live *live); /* nothing more is read; what was captured is still worked off */
const char *live_error(const struct live *live);
/* Ends and joins the threads, whatever they are doing. Takes one that was never started. */
void live_finish(struct live *live);

#endif
