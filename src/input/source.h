/* Where samples come from: one small table a kind. Part of the program, which feeds what it reads as SUR_F32LE at the
 * source's rate and channels.
 *
 * The struct is the caller's and all zeros before it is opened. After a failed open, `error` is one line for people
 * (names cleaned) and nothing is held; after a good one, close frees what is held. One thread at a time. */
#ifndef SUR_AUDIO_SOURCE_H
#define SUR_AUDIO_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "input/source_kind.h"
#include "input/source_pcm.h"

enum source_status {
    SOURCE_OK = 0,
    SOURCE_FAILED = -1,      /* the input cannot be read: exit 1 */
    SOURCE_INTERRUPTED = -2, /* a signal came; nothing is lost: look at the stop flag and call again, or close */
    SOURCE_USAGE = -3,       /* options that contradict the input: exit 2 */
};

/* In the order of --pcm's values. */
enum source_pcm {
    SOURCE_PCM_NONE,
    SOURCE_PCM_S16LE,
    SOURCE_PCM_F32LE,
    SOURCE_PCM_U8,
    SOURCE_PCM_S24LE,
    SOURCE_PCM_S32LE,
    SOURCE_PCM_S16BE,
    SOURCE_PCM_MULAW,
    SOURCE_PCM_ALAW
};

/* What the command line says of raw samples; 0: it says nothing. */
struct source_options {
    enum source_pcm pcm; /* --pcm */
    int rate, channels;  /* --rate, --channels; their ranges are the caller's to check */
    /* Lines that are no failures, without "surtitle: "; called by open and read, in their thread. NULL: not said. */
    void (*say)(const char *line);
};

struct source {
    char name[128]; /* for messages: printable UTF-8 */
    int rate, channels;
    bool grows; /* a file that somebody was still writing when it was opened: read waits for more */
    /* Up to max_frames interleaved frames of float, finite, full scale 1 (16 bits: exactly s16 / 32768). Waits for the
     * first whole frame, not for more. Returns how many, 0 at the end, SOURCE_FAILED or SOURCE_INTERRUPTED. An input
     * that ends before its first frame has failed, and so has one that ends before its header says so, or that goes on
     * with what is not read: all frames that could be read were given. A partial last frame is dropped. */
    ptrdiff_t (*read)(struct source *source, float *frames, size_t max_frames);
    void (*close)(struct source *source); /* NULL while nothing is held; may be called once */
    void *state;                          /* of the kind */
};

/* FILE. What it is its first bytes say, as below. A regular file that somebody still writes is read as it grows.
 * --rate or --channels without --pcm: SOURCE_USAGE. */
int source_file_open(struct source *source, const char *path, const struct source_options *options);
/* Standard input, which stays open after close. A terminal is refused; a regular file is read as one. */
int source_stdin_open(struct source *source, const struct source_options *options);
/* Any descriptor, by its first bytes (input/source_kind.h): with options->pcm raw samples, else WAV (input/wav.h); of a
 * regular file whatever libsndfile reads; other containers, and what is no sound, refused with the line that helps;
 * anything else is raw s16le, 16 kHz and mono if options do not say otherwise, but of a file with a name, which is
 * refused. Waits for those bytes and a WAV's header; --rate or --channels against a WAV: SOURCE_USAGE. owned: closed by
 * close and by a failed open. path: the name of a file, to be used in a command line; else NULL. */
int source_stream_open(struct source *source, int fd, bool owned, const char *name, const char *path,
                       const struct source_options *options);

/* ---- for the kinds ---- */

/* A regular file for libsndfile, of the kind that its first bytes say. Owns fd, also where it fails. */
int source_sndfile_open(struct source *source, int fd, const char *path, struct kind kind);

void source_set_name(struct source *source, const char *name);
/* The command that makes a WAV of a file, for messages: "ffmpeg ... -i 'a file' -f wav - | surtitle -". */
struct source_command {
    char line[256];
};
struct source_command source_ffmpeg(const char *path);
/* What its first bytes say makes it unreadable; from_file: ffmpeg can be given its name. SOURCE_FAILED. */
int source_refuse(struct source *source, struct kind kind, bool from_file, const char *path);

#endif
