/* AVX2 with FMA and F16C: 16 registers of 8 floats. */
#include <immintrin.h>
#include <stdint.h>
#define VW 8
#define FMA(a, b, c) ((vf)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define LOAD_FP16(p) ((vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#define TILE_ROWS 2
#define TILE_COLS 2
#define OPS sur_ops_avx2
#define OPS_NAME "avx2"
#include "cpu/ops_body.h"
