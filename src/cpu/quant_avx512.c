/* AVX-512 with VNNI: 16 rows, four byte products and their sum an instruction. */
#include <immintrin.h>
#include <stdint.h>
#define LANES        16
#define COLUMNS      4
#define PREFETCH_ONE __builtin_cpu_is("intel")
#define SIGNED_BYTES 0
#define FMA(a, b, c) ((vf)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define LOAD_U8(p)   ((vi)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#define LOAD_I8(p)   ((vi)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#define LOAD_FP16(p) ((vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p))))
#define QUANT_OPS    sur_quant_avx512
#define QUANT_NAME   "avx512-vnni"
#include "cpu/quant_vnni_body.h"
