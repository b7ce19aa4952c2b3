/* Sources of audio: files, pipes, standard input. The program feeds their frames to a session as SUR_F32LE.
 *
 * The caller owns the struct and zeroes it before an open call. A failed call keeps one line for the user
 * (util/failure.h). After a failed open nothing is held; after a successful one close frees it.
 *
 * Thread-safety: one thread at a time per source. */
#ifndef SOURCE_H
#define SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "input/source_kind.h"
#include "input/source_pcm.h"

enum source_status {
    SOURCE_OK = 0,
    SOURCE_FAILED = -1,      /* the input cannot be read: exit 1 */
    SOURCE_INTERRUPTED = -2, /* a signal came; nothing is lost: call again, or close */
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

/* Raw samples as the command line describes them; 0: not given. */
struct source_options {
    enum source_pcm pcm; /* --pcm */
    int rate, channels;  /* --rate, --channels; the caller checks their ranges */
    /* Called with a notice, without "surtitle: ", by open and read in their thread; may be NULL. */
    void (*notice)(const char *line);
};

struct source {
    char name[128]; /* for messages: printable UTF-8 */
    int rate, channels;
    bool grows; /* a program was still writing the file when it was opened: read waits for more */
    /* Reads up to max_frames interleaved frames of finite floats; full scale is 1 (16 bits: exactly s16 / 32768). Waits
     * for the first whole frame, not for more. Returns the number of frames, 0 at the end, SOURCE_FAILED or
     * SOURCE_INTERRUPTED. It fails, after all frames that can be read, if the input has none, ends earlier than its
     * header says, or continues with something that cannot be read. Drops a partial last frame. */
    ptrdiff_t (*read)(struct source *source, float *frames, size_t max_frames);
    void (*close)(struct source *source); /* NULL: nothing is held; may be called once */
    void *state;                          /* of the implementation */
};

/* Opens FILE; its first bytes decide the format, as in source_stream_open. A regular file that a program still writes
 * is read as it grows. SOURCE_USAGE: --rate or --channels without --pcm. */
int source_file_open(struct source *source, const char *path, const struct source_options *options);
/* Opens standard input, which stays open after close. Refuses a terminal; reads a regular file as a file. */
int source_stdin_open(struct source *source, const struct source_options *options);
/* Opens a descriptor. With options->pcm it holds raw samples. Otherwise its first bytes decide (input/source_kind.h):
 * WAV (input/wav.h); from a regular file whatever libsndfile reads; other containers, and data that is no audio, are
 * refused with a line that helps. Data of no known format is raw s16le, 16 kHz and mono unless options notice
 * otherwise; in a regular file with a name it is refused. Waits for those bytes and for a WAV's header. SOURCE_USAGE:
 * --rate or
 * --channels for a WAV. owned: close, or a failed open, closes fd. path: of the file, for use in a command line, or
 * NULL. */
int source_stream_open(struct source *source, int fd, bool owned, const char *name, const char *path,
                       const struct source_options *options);

/* ---- for the implementations ---- */

/* Opens a regular file of this kind by libsndfile. Owns fd, also on failure. */
int source_sndfile_open(struct source *source, int fd, const char *path, struct kind kind);

void source_set_name(struct source *source, const char *name);
/* A command for messages that converts a file: "ffmpeg ... -i 'a file' -f wav - | surtitle -". */
struct source_command {
    char line[256];
};
struct source_command source_ffmpeg(const char *path);
/* Fails because this kind cannot be read. from_file: ffmpeg can open it by name. Returns SOURCE_FAILED. */
int source_refuse(struct source *source, struct kind kind, bool from_file, const char *path);

#endif
