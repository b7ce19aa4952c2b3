/* For quant_*.c: vectors of LANES rows, and the loads that several instruction sets share. 16 and 8 lanes are AVX-512
 * and AVX2 with all that quant_body.h needs; 4 lanes lack FMA and LOAD_FP16. */
#include <stdint.h>

#include "cpu/quant.h"

typedef int32_t quant_vi __attribute__((vector_size(LANES * 4), may_alias));
typedef float quant_vf __attribute__((vector_size(LANES * 4), may_alias));

#if LANES == 16
#define FMA(a, b, c) ((quant_vf)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define LOAD_U8(p)   ((quant_vi)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#define LOAD_I8(p)   ((quant_vi)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#define LOAD_FP16(p) ((quant_vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p))))
#elif LANES == 8
#define FMA(a, b, c) ((quant_vf)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define LOAD_U8(p)   ((quant_vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define LOAD_I8(p)   ((quant_vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define LOAD_FP16(p) ((quant_vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#else
#define LOAD_U8(p) ((quant_vi){(p)[0], (p)[1], (p)[2], (p)[3]})
#define LOAD_I8(p) ((quant_vi){(int8_t)(p)[0], (int8_t)(p)[1], (int8_t)(p)[2], (int8_t)(p)[3]})
#endif
