/* Samples as bytes: how one is stored, and its value as float. For raw input and the WAV reader. */
#ifndef SUR_AUDIO_SOURCE_PCM_H
#define SUR_AUDIO_SOURCE_PCM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum pcm_coding {
    PCM_UNSIGNED, /* 1 byte, zero is 128 */
    PCM_SIGNED,   /* 1 to 4 bytes */
    PCM_FLOAT,    /* 4 or 8 bytes */
    PCM_MULAW,    /* 1 byte */
    PCM_ALAW,     /* 1 byte */
};

struct pcm_format {
    enum pcm_coding coding;
    int bytes; /* of one sample */
    bool big_endian;
};

/* Writes n samples to out: whole numbers of w bits as x / 2^(w-1); mu-law and A-law (G.711) as 16 bits; floats as they
 * are, 0 where not finite. */
void pcm_convert(const struct pcm_format *format, const uint8_t *bytes, size_t n, float *out);

#endif
