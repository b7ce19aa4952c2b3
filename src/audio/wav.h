/* WAV as it comes through a pipe: bytes pushed in, in pieces of any length; frames out.
 *
 * RIFF and RF64 with WAVE; chunks in any order up to `data`, LIST, JUNK and unknown ones skipped, odd sizes padded.
 * PCM of 8, 16, 24, 32 bits, float of 32, 64, both also as EXTENSIBLE; everything else is an error that names it.
 * Programs that write to a pipe cannot know the length: a `data` size of 0, or of 0x7FFFF000 and more in a RIFF (sox
 * writes that, ffmpeg 0xFFFFFFFF), means to the end; so does a size past the end, and an RF64's unless ds64 gives one.
 * What follows the data is ignored, and a partial last frame dropped. Part of the program, not of the library: it
 * allocates nothing, reads nothing, and keeps no pointer. */
#ifndef SUR_AUDIO_WAV_H
#define SUR_AUDIO_WAV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WAV_MAX_CHANNELS = 64, WAV_MIN_RATE = 1000, WAV_MAX_RATE = 768000 };

enum wav_state {
    WAV_RIFF,   /* 12 bytes */
    WAV_CHUNK,  /* 8 bytes: name and size */
    WAV_FORMAT, /* the beginning of fmt */
    WAV_SIZES,  /* the beginning of ds64 */
    WAV_SKIP,   /* what is not wanted of a chunk */
    WAV_DATA,   /* frames; rate, channels, bits and is_float are known */
    WAV_ENDED,  /* after the data */
    WAV_FAILED, /* error says why */
};

/* The caller's memory. */
struct wav {
    /* known from WAV_DATA on */
    int rate, channels, bits; /* bits of one sample: 8, 16, 24, 32, 64 */
    bool is_float;
    char error[128];
    enum wav_state state;
    /* inside */
    bool rf64, has_format;
    uint64_t left;       /* bytes of this chunk not yet seen, its padding included; of data: to the end if UINT64_MAX */
    uint64_t data_size;  /* RF64: from ds64; 0: not known */
    size_t held, wanted; /* bytes gathered in hold, and how many make the next thing */
    uint8_t hold[WAV_MAX_CHANNELS * 8]; /* a header, or a frame that came in pieces */
};

void wav_init(struct wav *wav);
/* Takes up to n bytes, *n_used says how many, and writes whole frames, at most max_samples floats (channels of them a
 * frame) in -1..1 as x / 2^(bits-1); floats as they are, 0 where not finite. It stops before a frame that does not fit;
 * with less room than one frame it stops at the data, so the header can be read first. Returns how many frames it
 * wrote, or -1 with error set. */
ptrdiff_t wav_push(struct wav *wav, const uint8_t *bytes, size_t n, size_t *n_used, float *samples, size_t max_samples);
/* There are no more bytes. 0 if the data had begun, else -1 with error set. */
int wav_end(struct wav *wav);

#endif
