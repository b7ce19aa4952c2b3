/* Where samples come from: one small table a kind. Part of the program, which feeds what it reads as SUR_F32LE at the
 * source's rate and channels.
 *
 * The struct is the caller's and all zeros before it is opened. After a failed open, `error` is one line for people
 * (names cleaned) and nothing is held; after a good one, close frees what is held. One thread at a time. */
#ifndef SUR_AUDIO_SOURCE_H
#define SUR_AUDIO_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

enum source_status {
    SOURCE_OK = 0,
    SOURCE_FAILED = -1,      /* the input cannot be read: exit 1 */
    SOURCE_INTERRUPTED = -2, /* a signal came; nothing is lost: look at the stop flag and call again, or close */
    SOURCE_USAGE = -3,       /* options that contradict the input: exit 2 */
};

enum source_pcm { SOURCE_PCM_NONE, SOURCE_PCM_S16LE, SOURCE_PCM_F32LE };

/* What the command line says of raw samples; 0: it says nothing. */
struct source_options {
    enum source_pcm pcm; /* --pcm */
    int rate, channels;  /* --rate, --channels; their ranges are the caller's to check */
};

struct source {
    char name[128]; /* for messages: printable UTF-8 */
    int rate, channels;
    char error[512];
    /* Up to max_frames interleaved frames of float, finite, full scale 1 (16 bits: exactly s16 / 32768). Waits for the
     * first whole frame, not for more. Returns how many, 0 at the end, SOURCE_FAILED or SOURCE_INTERRUPTED. An input
     * that ends before its first frame has failed; a partial last frame is dropped. */
    ptrdiff_t (*read)(struct source *source, float *frames, size_t max_frames);
    void (*close)(struct source *source); /* NULL while nothing is held; may be called once */
    void *state;                          /* of the kind */
};

/* FILE: with options->pcm raw samples, else whatever libsndfile reads (wav, flac, ogg, mp3, aiff and more). A FIFO or
 * device is read as a stream. --rate or --channels without --pcm: SOURCE_USAGE. */
int source_file_open(struct source *source, const char *path, const struct source_options *options);
/* Standard input, which stays open after close: with options->pcm raw, else by its first 12 bytes: WAV (audio/wav.h),
 * other containers refused by name, anything else raw s16le, 16 kHz and mono if options do not say otherwise. Waits for
 * those bytes and a WAV's header; --rate or --channels against a WAV: SOURCE_USAGE. */
int source_stdin_open(struct source *source, const struct source_options *options);
/* The same on any descriptor; owned: closed by close and by a failed open. */
int source_stream_open(struct source *source, int fd, bool owned, const char *name,
                       const struct source_options *options);

/* For the kinds: cleans the name, and writes the error and returns status. */
void source_set_name(struct source *source, const char *name);
int source_fail(struct source *source, enum source_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
