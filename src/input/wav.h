/* WAV as it comes through a pipe or from a file: bytes pushed in, in pieces of any length; frames out.
 *
 * RIFF, RF64, BW64 and RIFX (big-endian) with WAVE; chunks in any order up to `data`, LIST, JUNK and unknown ones
 * skipped, odd sizes padded or not. PCM of 1 to 32 bits, left-justified in whole bytes, float of 32 and 64, A-law and
 * mu-law, all also as EXTENSIBLE; everything else is an error that names it.
 *
 * Sizes are not believed where they are known to lie. Programs that write to a pipe cannot know the length: a `data`
 * size of 0, or of 0x7FFFF000 and more in a RIFF (sox writes that, ffmpeg 0xFFFFFFFF), may mean to the end, and so does
 * an RF64's unless ds64 gives one. A recorder that was killed leaves a size that is too small, and one above 4 GiB
 * wraps. So what stands behind the data decides: chunks are skipped, another `data` chunk is more sound, another WAV of
 * the same rate and channels goes on (of others: an error), and what is none of these is sound. A size that the input
 * does not reach is reported by wav_end. A partial last frame is dropped.
 *
 * Part of the program, not of the library: it allocates nothing, reads nothing, and keeps no pointer. */
#ifndef SUR_AUDIO_WAV_H
#define SUR_AUDIO_WAV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "input/source_pcm.h"
#include "surtitle.h"

enum wav_state {
    WAV_RIFF,   /* 12 bytes */
    WAV_CHUNK,  /* 8 bytes: name and size */
    WAV_FORMAT, /* the beginning of fmt */
    WAV_SIZES,  /* the beginning of ds64 */
    WAV_SKIP,   /* what is not wanted of a chunk */
    WAV_DATA,   /* frames; rate, channels and format are known */
    WAV_BEHIND, /* the bytes behind a chunk that follows the data, or behind the data */
    WAV_DRAIN,  /* what is no sound and no chunk; another WAV may follow */
    WAV_FAILED, /* error says why */
};

/* The caller's memory. */
struct wav {
    /* known from the first WAV_DATA on */
    int rate, channels;
    struct pcm_format format;
    bool unsupported; /* it failed because this reader does not know the coding */
    char error[192];
    enum wav_state state;
    /* inside */
    bool is_rf64, big_endian, has_format;
    bool started;                /* a first WAV's data began: another WAV has to have its rate and channels */
    bool has_data;               /* this WAV's data began */
    bool endless;                /* the size of the data is not believed */
    bool behind_chunk;           /* WAV_BEHIND: what precedes is a chunk, so that what is none is no sound */
    bool odd;                    /* what precedes has an odd size: a byte of padding may follow */
    uint64_t position, riff_end; /* bytes behind "WAVE": seen, and in all as its header says, 0 if not believed */
    uint64_t left;               /* bytes of this chunk not yet seen; of data: to the end if UINT64_MAX */
    uint64_t data_size;          /* RF64: from ds64; 0: not known */
    uint64_t frames;             /* given so far */
    size_t matched;              /* bytes of "RIFF....WAVE" seen in endless data or in WAV_DRAIN */
    bool found_big_endian;       /* it is "RIFX" */
    size_t held, wanted;         /* bytes gathered in hold, and how many make the next thing */
    size_t n_ahead, again;       /* bytes in ahead; of these that turned out to be sound, how many are done with */
    uint8_t ahead[16];           /* gathered in WAV_BEHIND */
    uint8_t hold[SUR_CHANNELS_MAX * 8]; /* a header, or a frame that came in pieces */
};

void wav_init(struct wav *wav);
/* Takes up to n bytes, *n_used says how many, and writes whole frames, at most max_samples floats (channels of them a
 * frame), as pcm_convert does. It stops before a frame that does not fit; with less room than one frame it stops at the
 * data, so that the header can be read first. It may have frames to give without more bytes. Returns how many frames it
 * wrote, or -1 with error set. */
ptrdiff_t wav_push(struct wav *wav, const uint8_t *bytes, size_t n, size_t *n_used, float *samples, size_t max_samples);
/* There are no more bytes. 0 if there was data and all that the header promised, else -1 with error set. */
int wav_end(struct wav *wav);

#endif
