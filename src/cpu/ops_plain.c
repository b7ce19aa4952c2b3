/* Plain C for any processor: vectors of 4 floats are what every 64-bit processor has. */
#include <stdint.h>
#define VW 4
#define FMA(a, b, c) ((a) * (b) + (c))
#define LOAD_FP16(p) load_fp16(p)
#define TILE_ROWS 2
#define TILE_COLS 1
#define OPS sur_ops_plain
#define OPS_NAME "plain"

/* fp16 bits moved into fp32's places are the number times 2^-112, denormals too; rings hold no infinities. */
typedef float plain_vf __attribute__((vector_size(16)));
typedef uint32_t plain_vu __attribute__((vector_size(16)));
typedef uint16_t plain_vh_memory __attribute__((vector_size(8), aligned(2), may_alias));
static inline plain_vf load_fp16(const uint16_t *p)
{
    plain_vu h = __builtin_convertvector(*(const plain_vh_memory *)p, plain_vu);
    plain_vf magnitude = (plain_vf)((h & 0x7fff) << 13) * 0x1p112f;
    return (plain_vf)((plain_vu)magnitude | (h & 0x8000) << 16);
}

#include "cpu/ops_body.h"
