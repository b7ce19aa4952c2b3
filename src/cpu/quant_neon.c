/* NEON with the dot product instructions (ARMv8.2): 4 rows; one instruction adds four products of bytes. */
#include <arm_neon.h>
#include <string.h>

#define LANES             4
#define COLUMNS           4
#define PREFETCH_ONE      false
#define SIGNED_BYTES      1
#define FMA(a, b, c)      ((quant_vf)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define LOAD_FP16(p)      load_fp16(p)
#define DOT(sum, w, four) vdotq_s32((int32x4_t)(sum), (int8x16_t)(w), vreinterpretq_s8_s32(vdupq_n_s32(four)))
#define QUANT_OPS         sur_quant_neon
#define QUANT_NAME        "neon"
#include "cpu/quant_vectors_body.h"

static inline quant_vf load_fp16(const uint8_t *p)
{
    uint16_t h[4];
    memcpy(h, p, sizeof h);
    return (quant_vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h)));
}

#include "cpu/quant_halves_body.h"

#include "cpu/quant_body.h"
