/* Detects the format of an input by its first bytes. */
#ifndef SOURCE_KIND_H
#define SOURCE_KIND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kind_class {
    KIND_UNKNOWN,  /* may be raw samples */
    KIND_MORE,     /* more bytes are needed to tell */
    KIND_WAV,      /* input/wav.h */
    KIND_FLAC,     /* libsndfile reads it from a file; several may be joined: input/source_parts.h */
    KIND_OGG,      /* like KIND_FLAC */
    KIND_MPEG,     /* like KIND_FLAC */
    KIND_SNDFILE,  /* libsndfile reads it from a file */
    KIND_FFMPEG,   /* audio that ffmpeg reads */
    KIND_SEEKABLE, /* audio that ffmpeg reads, perhaps only from a file that it can seek in */
    KIND_NO_SOUND, /* not audio */
};

struct kind {
    enum kind_class class;
    const char *name; /* "FLAC"; NULL: unknown */
};

enum { KIND_MOST_BYTES = 8192 }; /* with as many bytes kind_of never returns KIND_MORE */

/* Detects the kind by the first n bytes; end: no more follow. Returns KIND_MORE only if these bytes begin like a longer
 * header. None of 18 million beginnings of raw samples (noise of any level) was detected as another format. */
struct kind kind_of(const uint8_t *bytes, size_t n, bool end);

/* An MPEG audio frame's header, layers I to III. */
struct mpeg_frame {
    int rate, channels, layer;
    size_t bytes;   /* of the frame */
    size_t samples; /* per channel */
    size_t tag;     /* layer III: where a Xing or Info tag would stand */
};

/* Parses a header of 4 bytes. Returns false if it is none, or of the rare free format, whose length is unknown. */
bool kind_mpeg_frame(const uint8_t *p, struct mpeg_frame *frame);

#endif
