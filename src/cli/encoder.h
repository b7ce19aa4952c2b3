/* The encode thread of a live run: feeds a session from a capture, encodes, skips audio when captions fall behind. */
#ifndef ENCODER_H
#define ENCODER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "cli/lag.h"
#include "cli/reader.h"
#include "input/capture.h"
#include "surtitle.h"

enum {
    ENCODER_ENTRIES = 512, /* more than the tokens between encoding and decoding, at most 256 */
    ENCODER_AHEAD = 8,     /* tokens that may wait for the decoder: more would hide a backlog */
};

struct encoder {
    /* set by the caller before encoder_start, then immutable */
    struct sur_session *session; /* one channel of SUR_F32LE at `rate` */
    struct capture *capture;
    int rate;
    struct reader *reader; /* fills the capture; NULL: a microphone does, and wakes no thread */
    double max_lag;        /* seconds; 0: nothing is skipped */
    int delay_ms;          /* of the session */
    bool realtime;         /* ask for real-time priority */
    int decode_wake; /* event descriptor (os_wake.h): posted to when there is something to decode, and at the end */

    /* of the calls below */
    pthread_t thread;
    bool running;
    int wake; /* event descriptor of this thread */
    atomic_bool stop, waits_for_decoder;

    /* encode thread writes, any thread reads */
    atomic_int status;                        /* negative: encoding failed; released after error */
    char error[512];                          /* the line of a failure */
    atomic_bool rests;                        /* the source stands still, and all that it delivered has been encoded */
    _Atomic float level;                      /* loudness of what was fed last, 0 to 1 */
    _Atomic int64_t backlog;                  /* captured and not encoded, 16 kHz samples */
    _Atomic int64_t entries[ENCODER_ENTRIES]; /* see encoder_entry_ns */

    /* encode thread; after encoder_join the caller's */
    struct lag lag;
    struct lag_speed speed;
    int64_t fed_frames;
    int64_t missing[3], marked[3]; /* by enum sur_skip_reason: frames lost or dropped; 16 kHz samples marked as skips */
    int64_t waited_ns;             /* for samples since the last feed, without time in which the process was stopped */
    bool flushed;                  /* since the last feed */
    int64_t entry_ns, last_block_ns; /* of the block fed last: when it came, its duration */
    int64_t longest_block;           /* frames */
    int64_t most_in_resampler;       /* 16 kHz samples */
    int64_t n_lag_skips;
    bool finished;
};

/* SUR_OK, or SUR_ERR_IO or SUR_ERR_MEMORY with a line (util/failure.h). encoder_join in any case. */
int encoder_start(struct encoder *encoder);
/* Decoder, after a step: the thread may wait for it. */
void encoder_note_step(struct encoder *encoder);
/* Decoder. When the last sample of this token was captured; 0: the token has none, -1: it came while the model loaded.
 */
int64_t encoder_entry_ns(const struct encoder *encoder, int64_t token);
void encoder_stop(struct encoder *encoder); /* any thread: returns at once; what is captured is not encoded any more */
/* After encoder_stop, or once the session has ended. Takes an encoder that was not started. */
void encoder_join(struct encoder *encoder);

#endif
