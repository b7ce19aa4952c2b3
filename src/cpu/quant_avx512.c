/* AVX-512 with VNNI: 16 rows; one instruction adds four products of bytes. */
#include <immintrin.h>

#define LANES             16
#define COLUMNS           4
#define PREFETCH_ONE      __builtin_cpu_is("intel")
#define SIGNED_BYTES      0
#define DOT(sum, w, four) _mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(w), _mm512_set1_epi32(four))
#define QUANT_OPS         sur_quant_avx512
#define QUANT_NAME        "avx512-vnni"
#include "cpu/quant_vectors_body.h"

#include "cpu/quant_halves_body.h"

#include "cpu/quant_body.h"
