/* AVX-512 (F, BW, VL, DQ): 32 registers of 16 floats. */
#include <immintrin.h>
#include <stdint.h>
#define VW 16
#define FMA(a, b, c) ((vf)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define LOAD_FP16(p) ((vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p))))
#define TILE_ROWS 4
#define TILE_COLS 6
#define OPS sur_ops_avx512
#define OPS_NAME "avx512"
#include "cpu/ops_body.h"
