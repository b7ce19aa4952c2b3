/* NEON with the dot product instructions (ARMv8.2): 4 rows, four byte products and their sum an instruction. */
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#include "cpu/quant.h"

#define LANES        4
#define COLUMNS      4
#define PREFETCH_ONE false
#define SIGNED_BYTES 1
#define FMA(a, b, c) ((vf)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define LOAD_U8(p)   load_u8(p)
#define LOAD_I8(p)   load_i8(p)
#define LOAD_FP16(p) load_fp16(p)
#define QUANT_OPS    sur_quant_neon
#define QUANT_NAME   "neon"

typedef int32_t quant_vi __attribute__((vector_size(16), may_alias));
typedef float quant_vf __attribute__((vector_size(16), may_alias));

static inline quant_vi load_u8(const uint8_t *p)
{
    return (quant_vi){p[0], p[1], p[2], p[3]};
}

static inline quant_vi load_i8(const uint8_t *p)
{
    return (quant_vi){(int8_t)p[0], (int8_t)p[1], (int8_t)p[2], (int8_t)p[3]};
}

static inline quant_vf load_fp16(const uint8_t *p)
{
    uint16_t h[4];
    memcpy(h, p, sizeof h);
    return (quant_vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h)));
}

struct acc {
    quant_vi high, low;
};
#define ACC_ZERO ((struct acc){{0}, {0}})

static inline __attribute__((always_inline)) quant_vi dot(quant_vi sum, quant_vi w, const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
    return (quant_vi)vdotq_s32((int32x4_t)sum, (int8x16_t)w, vreinterpretq_s8_s32(vdupq_n_s32(four)));
}

static inline __attribute__((always_inline)) struct acc acc_step(struct acc a, quant_vi w,
                                                                 const struct sur_quant_group *g, int j)
{
    return (struct acc){dot(a.high, w, g->high + 4 * j), dot(a.low, w, g->low + 4 * j)};
}

static inline __attribute__((always_inline)) quant_vi acc_sum(struct acc a)
{
    return (a.high << 8) + a.low;
}

static inline void put_group(struct sur_quant_group *to, const int32_t *q)
{
    for (int i = 0; i < SUR_GROUP; i++) {
        int32_t high = (q[i] + 128) >> 8;
        to->high[i] = (int8_t)high;
        to->low[i] = (int8_t)(q[i] - high * 256);
    }
}

#include "cpu/quant_body.h"
