/* The parts of quant_body.h that both VNNI tables share: high and low halves of the activations are summed apart. */
#include <string.h>

#include "cpu/quant.h"

typedef int32_t quant_vi __attribute__((vector_size(LANES * 4), may_alias));

struct acc {
    quant_vi high, low;
};
#define ACC_ZERO ((struct acc){{0}, {0}})

static inline __attribute__((always_inline)) quant_vi dot(quant_vi sum, quant_vi w, const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
#if LANES == 16
    return (quant_vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, _mm512_set1_epi32(four));
#elif defined(__AVX512VNNI__)
    return (quant_vi)_mm256_dpbusd_epi32((__m256i)sum, (__m256i)w, _mm256_set1_epi32(four));
#else
    return (quant_vi)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)w, _mm256_set1_epi32(four));
#endif
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
