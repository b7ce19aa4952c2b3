/* The integer products in plain C, for any processor: 4 rows side by side. */
#include <math.h>
#include <string.h>

#include "util/half.h"

#define LANES        4
#define COLUMNS      1
#define PREFETCH_ONE false
#define SIGNED_BYTES 0
#define FMA(a, b, c) fused(a, b, c)
#define LOAD_FP16(p) load_fp16(p)
#define QUANT_OPS    sur_quant_plain
#define QUANT_NAME   "plain"
#include "cpu/quant_vectors_body.h"

static inline quant_vf fused(quant_vf a, quant_vf b, quant_vf c)
{
    return (quant_vf){fmaf(a[0], b[0], c[0]), fmaf(a[1], b[1], c[1]), fmaf(a[2], b[2], c[2]), fmaf(a[3], b[3], c[3])};
}

static inline quant_vf load_fp16(const uint8_t *p)
{
    uint16_t h[4];
    memcpy(h, p, sizeof h);
    return (quant_vf){sur_fp16_to_f32(h[0]), sur_fp16_to_f32(h[1]), sur_fp16_to_f32(h[2]), sur_fp16_to_f32(h[3])};
}

struct acc {
    quant_vi sum;
};
#define ACC_ZERO ((struct acc){{0}})

static inline struct acc acc_step(struct acc a, quant_vi w, const struct sur_quant_group *g, int j)
{
    const int16_t *q = g->q + 4 * j;
    a.sum += (w & 0xff) * (int32_t)q[0] + (w >> 8 & 0xff) * (int32_t)q[1] + (w >> 16 & 0xff) * (int32_t)q[2] +
             (w >> 24 & 0xff) * (int32_t)q[3];
    return a;
}

static inline quant_vi acc_sum(struct acc a)
{
    return a.sum;
}

static inline void put_group(struct sur_quant_group *to, const int32_t *q)
{
    for (int i = 0; i < SUR_GROUP; i++) to->q[i] = (int16_t)q[i];
}

#include "cpu/quant_body.h"
