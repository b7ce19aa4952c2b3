/* AVX-VNNI: 8 rows; one instruction adds four products of bytes. */
#include <immintrin.h>

#define LANES        8
#define COLUMNS      2
#define PREFETCH_ONE __builtin_cpu_is("intel")
#define SIGNED_BYTES 0
#ifdef __AVX512VNNI__ /* a test compiles this file for AVX-512's encoding, under another name */
#define DOT(sum, w, four) _mm256_dpbusd_epi32((__m256i)(sum), (__m256i)(w), _mm256_set1_epi32(four))
#else
#define DOT(sum, w, four) _mm256_dpbusd_avx_epi32((__m256i)(sum), (__m256i)(w), _mm256_set1_epi32(four))
#endif
#ifndef QUANT_OPS
#define QUANT_OPS sur_quant_avx_vnni
#endif
#define QUANT_NAME "avx-vnni"
#include "cpu/quant_vectors_body.h"

#include "cpu/quant_halves_body.h"

#include "cpu/quant_body.h"
