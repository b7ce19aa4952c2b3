/* AVX-VNNI: 8 rows, four byte products and their sum an instruction. */
#include <immintrin.h>
#include <stdint.h>
#define LANES        8
#define COLUMNS      2
#define PREFETCH_ONE __builtin_cpu_is("intel")
#define SIGNED_BYTES 0
#define FMA(a, b, c) ((vf)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define LOAD_U8(p)   ((vi)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define LOAD_I8(p)   ((vi)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(p))))
#define LOAD_FP16(p) ((vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#ifndef QUANT_OPS /* a test compiles this file for AVX-512's encoding under another name */
#define QUANT_OPS sur_quant_avx_vnni
#endif
#define QUANT_NAME "avx-vnni"
#include "cpu/quant_vnni_body.h"
