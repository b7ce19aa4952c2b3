/* The reader thread of a live run: reads a file at the speed of speech, or a pipe as it delivers, into a capture. */
#ifndef READER_H
#define READER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "input/capture.h"
#include "input/source.h"

struct reader {
    /* Set by the caller before reader_start, then immutable. From reader_start to reader_join the thread owns what
     * these point at, except the consumer's side of capture, downmix_poll, and fields that do not change. */
    struct source *source;
    struct downmix *mix;
    struct capture *capture;
    float *frames; /* [max_frames, channels]; the first n_frames have been read already */
    size_t max_frames, n_frames;
    bool slow_writer; /* source is a pipe or the like, whose writer may be slow */
    double pace;      /* 0: as fast as the source delivers; 1: at the speed of speech */
    int wake;         /* event descriptor (os_wake.h): posted to when the capture holds more, and at the end */

    /* of the calls below */
    pthread_t thread;
    bool running;
    int space_wake;
    atomic_bool stop, waits_for_space, done;

    /* reader thread; after reader_join the caller's */
    int status;      /* enum source_status */
    char error[512]; /* the line of a failure */
    int64_t start_ns, frames_read;
};

/* SUR_OK, or SUR_ERR_IO or SUR_ERR_MEMORY with a line (util/failure.h). reader_join in any case. */
int reader_start(struct reader *reader);
/* Any thread: nothing more is read. Returns at once; the capture ends when the thread does. */
void reader_stop(struct reader *reader);
/* After reader_stop: interrupts a system call in which the thread blocks. A call that comes just before the thread
 * blocks has no effect, so repeat it until it returns false: the thread has ended, or there is none. */
bool reader_interrupt(struct reader *reader);
/* Consumer of the capture, after it took samples: the thread may wait for space. */
void reader_note_space(struct reader *reader);
/* After reader_stop. Waits for the thread. Takes a reader that was not started. */
void reader_join(struct reader *reader);
/* After reader_join, and after the last call of reader_note_space. */
void reader_close(struct reader *reader);

#endif
