/* Conversion of single bf16 and fp16 numbers. Pure. */
#ifndef SUR_UTIL_HALF_H
#define SUR_UTIL_HALF_H

#include <stdint.h>
#include <string.h>

static inline float sur_bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline float sur_fp16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023, u;
    float f;
    if (exponent == 0) { /* zero and denormals: fraction * 2^-24, exact in fp32 */
        f = (float)fraction * 0x1p-24f;
        memcpy(&u, &f, sizeof u);
        u |= sign;
    } else if (exponent == 31) {
        u = sign | 0x7f800000u | fraction << 13;
    } else {
        u = sign | (exponent + 112) << 23 | fraction << 13;
    }
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Rounds to nearest even; finite values saturate at +-65504. Infinity and NaN are kept: from a K/V ring they reach the
 * logits, where the step reports them. */
static inline uint16_t sur_f32_to_fp16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    uint32_t sign = u >> 16 & 0x8000, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00);
    if (a == 0x7f800000u) return (uint16_t)(sign | 0x7c00);
    if (a >= 0x477fe000u) return (uint16_t)(sign | 0x7bff); /* 65504 and above */
    if (a < 0x38800000u) {                                  /* below 2^-14 fp16 has steps of 2^-24 */
        float scaled, magic = 0.5f;                         /* a sum with 0.5 keeps 24 bits, so it rounds to 2^-24 */
        memcpy(&scaled, &a, sizeof scaled);
        scaled += magic;
        memcpy(&a, &scaled, sizeof a);
        return (uint16_t)(sign | (a - 0x3f000000u));
    }
    a += 0xfff + (a >> 13 & 1);
    return (uint16_t)(sign | (a - 0x38000000u) >> 13);
}

#endif
