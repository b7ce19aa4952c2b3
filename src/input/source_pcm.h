/* Codings of samples, for raw PCM and the WAV reader. */
#ifndef SOURCE_PCM_H
#define SOURCE_PCM_H

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

/* Converts n samples: integers of w bits to x / 2^(w-1), mu-law and A-law (G.711) as 16 bits, floats unchanged, or 0 if
 * not finite. */
void pcm_convert(const struct pcm_format *format, const uint8_t *bytes, size_t n, float *out);

#endif
