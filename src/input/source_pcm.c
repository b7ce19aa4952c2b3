#include "input/source_pcm.h"

#include <float.h>
#include <math.h>
#include <string.h>

/* Returns the bytes of a sample as the most significant bytes of 64 bits. */
static uint64_t load(const struct pcm_format *f, const uint8_t *p)
{
    uint64_t u = 0;
    for (int i = 0; i < f->bytes; i++) u = u >> 8 | (uint64_t)p[f->big_endian ? f->bytes - 1 - i : i] << 56;
    return u;
}

static float load_float(const struct pcm_format *f, const uint8_t *p)
{
    uint64_t u = load(f, p);
    if (f->bytes == 8) {
        double d;
        memcpy(&d, &u, sizeof d);
        return fabs(d) <= FLT_MAX ? (float)d : 0; /* false for NaN */
    }
    uint32_t v = (uint32_t)(u >> 32);
    float x;
    memcpy(&x, &v, sizeof x);
    return isfinite(x) ? x : 0;
}

/* G.711: sign, three bits of exponent, four of mantissa, inverted. */
static int from_mulaw(uint8_t byte)
{
    int u = ~byte & 0xFF, magnitude = ((u & 15) << 3) + 132;
    magnitude = (magnitude << (u >> 4 & 7)) - 132;
    return u & 0x80 ? -magnitude : magnitude;
}

static int from_alaw(uint8_t byte)
{
    int u = byte ^ 0x55, exponent = u >> 4 & 7, magnitude = (u & 15) << 4;
    magnitude = exponent == 0 ? magnitude + 8 : (magnitude + 264) << (exponent - 1);
    return u & 0x80 ? magnitude : -magnitude;
}

void pcm_convert(const struct pcm_format *f, const uint8_t *p, size_t n, float *out)
{
    switch (f->coding) {
    case PCM_UNSIGNED:
        for (size_t i = 0; i < n; i++) out[i] = (float)(p[i] - 128) / 128;
        return;
    case PCM_MULAW:
        for (size_t i = 0; i < n; i++) out[i] = (float)from_mulaw(p[i]) / 32768;
        return;
    case PCM_ALAW:
        for (size_t i = 0; i < n; i++) out[i] = (float)from_alaw(p[i]) / 32768;
        return;
    case PCM_FLOAT:
        for (size_t i = 0; i < n; i++, p += f->bytes) out[i] = load_float(f, p);
        return;
    case PCM_SIGNED:
        break;
    }
    if (f->bytes == 2 && !f->big_endian) {
        for (size_t i = 0; i < n; i++, p += 2) out[i] = (float)(int16_t)(p[0] | p[1] << 8) / 32768;
        return;
    }
    for (size_t i = 0; i < n; i++, p += f->bytes) out[i] = (float)((double)(int32_t)(load(f, p) >> 32) / 2147483648.0);
}
