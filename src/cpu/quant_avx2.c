/* AVX2: 8 rows, products of 16-bit integers. */
#include <immintrin.h>
#include <string.h>

#define LANES        8
#define COLUMNS      2
#define PREFETCH_ONE __builtin_cpu_is("intel")
#define SIGNED_BYTES 0
#define QUANT_OPS    sur_quant_avx2
#define QUANT_NAME   "avx2"
#include "cpu/quant_vectors_body.h"

struct acc {
    quant_vi sum;
};
#define ACC_ZERO ((struct acc){{0}})

/* Bytes 0 and 2 of each row, then 1 and 3, as pairs of 16 bits; put_group writes the activations in this order. */
static inline __attribute__((always_inline)) struct acc acc_step(struct acc a, quant_vi w,
                                                                 const struct sur_quant_group *g, int j)
{
    const __m256i low_bytes = _mm256_set1_epi16(0xff);
    int32_t even, odd;
    memcpy(&even, g->q + 4 * j, sizeof even);
    memcpy(&odd, g->q + 4 * j + 2, sizeof odd);
    __m256i e = _mm256_madd_epi16(_mm256_and_si256((__m256i)w, low_bytes), _mm256_set1_epi32(even));
    __m256i o = _mm256_madd_epi16(_mm256_srli_epi16((__m256i)w, 8), _mm256_set1_epi32(odd));
    return (struct acc){a.sum + (quant_vi)e + (quant_vi)o};
}

static inline __attribute__((always_inline)) quant_vi acc_sum(struct acc a)
{
    return a.sum;
}

static inline void put_group(struct sur_quant_group *to, const int32_t *q)
{
    for (int i = 0; i < SUR_GROUP; i += 4) {
        to->q[i] = (int16_t)q[i];
        to->q[i + 1] = (int16_t)q[i + 2];
        to->q[i + 2] = (int16_t)q[i + 1];
        to->q[i + 3] = (int16_t)q[i + 3];
    }
}

#include "cpu/quant_body.h"
