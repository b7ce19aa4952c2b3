/* What an input is, by its first bytes. */
#ifndef SUR_AUDIO_SOURCE_KIND_H
#define SUR_AUDIO_SOURCE_KIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kind_class {
    KIND_UNKNOWN,  /* may be raw samples */
    KIND_MORE,     /* more bytes are needed to tell */
    KIND_WAV,      /* input/wav.h */
    KIND_FLAC,     /* libsndfile reads it from a file; several may be joined: input/source_parts.h */
    KIND_OGG,      /* " */
    KIND_MPEG,     /* " */
    KIND_SNDFILE,  /* libsndfile reads it from a file */
    KIND_FFMPEG,   /* sound, for ffmpeg */
    KIND_SEEKABLE, /* sound, for ffmpeg, which may need all of the file */
    KIND_NO_SOUND,
};

struct kind {
    enum kind_class class;
    const char *name; /* "FLAC"; NULL: unknown */
};

enum { KIND_MOST_BYTES = 8192 }; /* with so many, KIND_MORE is never returned */

/* By the first n bytes; end: there are no more. Of 18 million starts of raw samples, noise of any level, none was taken
 * for something else. KIND_MORE comes only where the bytes so far begin like something that is longer. */
struct kind kind_of(const uint8_t *bytes, size_t n, bool end);

/* An MPEG audio frame's header, layers I to III. */
struct mpeg_frame {
    int rate, channels, layer;
    size_t bytes;   /* of the frame */
    size_t samples; /* per channel */
    size_t tag;     /* layer III: where a Xing or Info tag would stand */
};

/* From 4 bytes; false: it is none, or one of the rare free format, whose length is not known. */
bool kind_mpeg_frame(const uint8_t *p, struct mpeg_frame *frame);

#endif
