/* A push parser for WAV: takes bytes in pieces of any length, from a pipe or a file, and returns frames.
 *
 * RIFF, RF64, BW64 and RIFX (big-endian) with WAVE; chunks in any order up to `data`, LIST, JUNK and unknown ones
 * skipped, odd sizes padded or not. PCM of 1 to 32 bits, left-justified in whole bytes, float of 32 and 64, A-law and
 * mu-law, all also as EXTENSIBLE; another coding is an error that names it.
 *
 * The `data` size may be wrong. Programs that write to a pipe do not know the length: 0, or 0x7FFFF000 and more in a
 * RIFF (sox writes that, ffmpeg 0xFFFFFFFF), may mean "to the end", and so does the size in an RF64 without ds64. A
 * recorder that was killed leaves a size that is too small, and a size above 4 GiB wraps. So the bytes after the data
 * decide: chunks are skipped, another `data` chunk is more audio, another WAV of the same rate and channels continues
 * it (one of others is an error), and anything else is audio. wav_end reports an input that is shorter than its size. A
 * partial last frame is dropped.
 *
 * Allocates nothing, does no I/O and keeps no pointer. */
#ifndef WAV_H
#define WAV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "input/source_pcm.h"
#include "surtitle.h"

enum wav_state {
    WAV_RIFF,       /* 12 bytes */
    WAV_CHUNK,      /* 8 bytes: name and size */
    WAV_FORMAT,     /* the beginning of fmt */
    WAV_SIZES,      /* the beginning of ds64 */
    WAV_SKIP,       /* the rest of a chunk */
    WAV_DATA,       /* frames; rate, channels and format are known */
    WAV_AFTER_DATA, /* the bytes after the data, or after a chunk that follows it */
    WAV_DRAIN,      /* neither audio nor chunks; another WAV may follow */
    WAV_FAILED,     /* see error */
};

/* The caller's memory. */
struct wav {
    /* known from the first WAV_DATA on */
    int rate, channels;
    struct pcm_format format;
    bool unsupported; /* the parser does not know the coding; another reader may */
    char error[192];  /* a clause for a message, "it ends before its data"; kept, because calls after a failure fail */
    enum wav_state state;
    /* inside */
    bool is_rf64, big_endian, has_format;
    bool started;                /* a first WAV's data began: another WAV has to have its rate and channels */
    bool has_data;               /* this WAV's data began */
    bool endless;                /* the size of the data is not believed */
    bool after_chunk;            /* WAV_AFTER_DATA: what precedes is a chunk, so that what is none is no sound */
    bool odd;                    /* what precedes has an odd size: a byte of padding may follow */
    uint64_t position, riff_end; /* bytes behind "WAVE": seen, and in all as its header says, 0 if not believed */
    uint64_t left;               /* bytes of this chunk not yet seen; of data: to the end if UINT64_MAX */
    uint64_t data_size;          /* RF64: from ds64; 0: not known */
    uint64_t frames;             /* given so far */
    size_t matched;              /* bytes of "RIFF....WAVE" seen in endless data or in WAV_DRAIN */
    bool found_big_endian;       /* it is "RIFX" */
    size_t held, wanted;         /* bytes gathered in hold, and how many make the next thing */
    size_t n_ahead, again;       /* bytes in ahead; of these that turned out to be sound, how many are done with */
    uint8_t ahead[16];           /* gathered in WAV_AFTER_DATA */
    uint8_t hold[SUR_CHANNELS_MAX * 8]; /* a header, or a frame that came in pieces */
};

void wav_init(struct wav *wav);
/* Takes up to n bytes, *n_used of them, and writes whole frames, at most max_samples floats (`channels` per frame), as
 * pcm_convert does. Stops before a frame that does not fit; with space for less than one frame it stops at the data, so
 * that the caller can read the header first. May write frames without taking bytes. Returns the number of frames
 * written, or -1 with error set. */
ptrdiff_t wav_push(struct wav *wav, const uint8_t *bytes, size_t n, size_t *n_used, float *samples, size_t max_samples);
/* No bytes follow. Returns 0 if there was data and as much as the header says, else -1 with error set. */
int wav_end(struct wav *wav);

#endif
