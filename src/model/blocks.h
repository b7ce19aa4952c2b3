/* Types of weights: the layout of a row in a checkpoint, and conversion in both directions.
 *
 * Thread-safety: pure functions.
 *
 * Quantised rows consist of blocks, laid out as in GGUF files. Within a block, each group of weights shares a scale:
 *
 *   type   values/block    bytes  block                                                     w =
 *   Q8_0    32              34    fp16 d, int8 q[32]                                        d q
 *   Q4_K   256             144    fp16 d, fp16 dmin, 12 bytes of 6-bit (sc, m), 4-bit q     d sc q - dmin m
 *   Q5_K   256             176    the same, with the fifth bits of q in 32 bytes            d sc q - dmin m
 *   Q6_K   256             210    4-bit low parts, 2-bit high parts, int8 sc[16], fp16 d    d sc q
 *
 * Q4_K and Q5_K have eight groups of 32 values (q 0 to 15 and 0 to 31), Q6_K sixteen groups of 16 (q -32 to 31).
 * d sc, dmin m and d sc q are exact in fp32, so a weight is rounded once (Q4_K, Q5_K) or not at all. */
#ifndef SUR_MODEL_BLOCKS_H
#define SUR_MODEL_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/half.h"

enum sur_weight_type {
    SUR_WEIGHT_BF16,
    SUR_WEIGHT_F16,
    SUR_WEIGHT_F32,
    SUR_WEIGHT_Q8_0,
    SUR_WEIGHT_Q4_K,
    SUR_WEIGHT_Q5_K,
    SUR_WEIGHT_Q6_K,
    SUR_N_WEIGHT_TYPES
};

enum { SUR_BLOCK_GROUP = 32 }; /* values per sur_block_group */

/* 32 neighbouring weights of a quantised row as integers. Weight i is scale[i / 16] q[i] - minimum, where
 * scale[h] = d sc[h] and minimum = dmin m. */
struct sur_block_group {
    int8_t q[SUR_BLOCK_GROUP]; /* Q8_0 -128..127, Q4_K 0..15, Q5_K 0..31, Q6_K -32..31 */
    uint16_t d, dmin;          /* fp16 bits; the same for all groups of a block; dmin 0 for types without a minimum */
    int8_t sc[2]; /* of values 0..15 and 16..31; equal except for Q6_K; 1 for Q8_0, else 0..63, Q6_K -128..127 */
    uint8_t m;    /* 0..63; 0 for types without a minimum */
};

static inline float sur_block_scale(const struct sur_block_group *g, int half) /* exact */
{
    return sur_fp16_to_f32(g->d) * (float)g->sc[half];
}
static inline float sur_block_minimum(const struct sur_block_group *g) /* exact */
{
    return sur_fp16_to_f32(g->dmin) * (float)g->m;
}

const char *sur_weight_type_name(enum sur_weight_type type); /* "BF16", "Q4_K", ... */
bool sur_weight_quantised(enum sur_weight_type type);        /* whether rows consist of blocks */
int sur_block_values(enum sur_weight_type type);             /* 1, 32 or 256 */
size_t sur_block_bytes(enum sur_weight_type type);
/* Bytes of a row; cols must be a multiple of sur_block_values. */
size_t sur_row_bytes(enum sur_weight_type type, int cols);

/* Reads the group of columns 32 g to 32 g + 31 of a quantised row. row needs no alignment. */
void sur_block_group_at(enum sur_weight_type type, const void *row, int g, struct sur_block_group *group);
/* Converts a row [cols] of any type to fp32. row needs no alignment. */
void sur_dequantise_row(enum sur_weight_type type, const void *row, int cols, float *out);

/* Converts fp32 values, which must be finite, to a row of any type, with the same bytes on every machine. F16 and BF16
 * are rounded to nearest even; F16 saturates. Q8_0 equals the result of the PyPI package gguf; the other types search
 * for the least squared error. */
void sur_quantise_row(enum sur_weight_type type, const float *values, int cols, void *row);

#endif
