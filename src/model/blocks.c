#include "model/blocks.h"

#include <string.h>

enum { K_VALUES = 256 };

static const struct {
    char name[8];
    int values;
    size_t bytes;
} types[SUR_N_WEIGHT_TYPES] = {
    [SUR_WEIGHT_BF16] = {"BF16", 1, 2},
    [SUR_WEIGHT_F16] = {"F16", 1, 2},
    [SUR_WEIGHT_F32] = {"F32", 1, 4},
    [SUR_WEIGHT_Q8_0] = {"Q8_0", 32, 34},
    [SUR_WEIGHT_Q4_K] = {"Q4_K", K_VALUES, 144},
    [SUR_WEIGHT_Q5_K] = {"Q5_K", K_VALUES, 176},
    [SUR_WEIGHT_Q6_K] = {"Q6_K", K_VALUES, 210},
};

const char *sur_weight_type_name(enum sur_weight_type type)
{
    return types[type].name;
}

bool sur_weight_quantised(enum sur_weight_type type)
{
    return types[type].values > 1;
}

int sur_block_values(enum sur_weight_type type)
{
    return types[type].values;
}

size_t sur_block_bytes(enum sur_weight_type type)
{
    return types[type].bytes;
}

size_t sur_row_bytes(enum sur_weight_type type, int cols)
{
    return (size_t)(cols / types[type].values) * types[type].bytes;
}

static uint16_t u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static void group_q8_0(const uint8_t *block, struct sur_block_group *out)
{
    *out = (struct sur_block_group){.d = u16(block), .sc = {1, 1}};
    memcpy(out->q, block + 2, SUR_BLOCK_GROUP);
}

/* Twelve bytes of Q4_K and Q5_K hold eight scales and eight minimums of 6 bits: those of groups 0 to 3 in the low six
 * bits of bytes 0 to 3 (scales) and 4 to 7 (minimums); those of groups 4 to 7 with their low four bits in bytes 8 to 11
 * (scales in the low nibbles, minimums in the high ones) and their high two bits on top of bytes 0 to 3 and 4 to 7. */
static void scales_k(const uint8_t *s, int g, struct sur_block_group *out)
{
    int sc = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
    int m = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | (s[g] >> 6) << 4;
    out->sc[0] = out->sc[1] = (int8_t)sc;
    out->m = (uint8_t)m;
}

/* Groups 2 j and 2 j + 1 are the low and the high nibbles of 32 bytes. fifth: bit g of byte i is bit 4 of value i of
 * group g; NULL for Q4_K. */
static void group_q45(const uint8_t *block, int g, const uint8_t *fifth, const uint8_t *nibbles,
                      struct sur_block_group *out)
{
    const uint8_t *n = nibbles + g / 2 * SUR_BLOCK_GROUP;
    int shift = g % 2 * 4;
    out->d = u16(block);
    out->dmin = u16(block + 2);
    scales_k(block + 4, g, out);
    for (int i = 0; i < SUR_BLOCK_GROUP; i++)
        out->q[i] = (int8_t)((n[i] >> shift & 15) | (fifth ? (fifth[i] >> g & 1) << 4 : 0));
}

/* Each half of 128 values has 64 bytes of low nibbles and 32 bytes of high pairs of bits: its groups 0 and 1 are the
 * low nibbles of the first and second 32 bytes, 2 and 3 the high ones; group j has bits 2 j and 2 j + 1 of the pairs.
 */
static void group_q6_k(const uint8_t *block, int g, struct sur_block_group *out)
{
    const uint8_t *low = block + g / 4 * 64 + g % 2 * SUR_BLOCK_GROUP, *high = block + 128 + g / 4 * SUR_BLOCK_GROUP;
    int shift = g % 4 / 2 * 4, pair = g % 4 * 2;
    *out = (struct sur_block_group){.d = u16(block + 208)};
    memcpy(out->sc, block + 192 + 2 * g, 2);
    for (int i = 0; i < SUR_BLOCK_GROUP; i++)
        out->q[i] = (int8_t)(((low[i] >> shift & 15) | (high[i] >> pair & 3) << 4) - 32);
}

void sur_block_group_at(enum sur_weight_type type, const void *row, int g, struct sur_block_group *group)
{
    const uint8_t *block = row;
    if (type == SUR_WEIGHT_Q8_0) {
        group_q8_0(block + (size_t)g * types[type].bytes, group);
        return;
    }
    block += (size_t)(g / (K_VALUES / SUR_BLOCK_GROUP)) * types[type].bytes;
    g %= K_VALUES / SUR_BLOCK_GROUP;
    if (type == SUR_WEIGHT_Q4_K)
        group_q45(block, g, NULL, block + 16, group);
    else if (type == SUR_WEIGHT_Q5_K)
        group_q45(block, g, block + 16, block + 48, group);
    else
        group_q6_k(block, g, group);
}

void sur_dequantise_row(enum sur_weight_type type, const void *row, int cols, float *out)
{
    const uint8_t *p = row;
    if (type == SUR_WEIGHT_F32) {
        memcpy(out, row, (size_t)cols * sizeof *out);
    } else if (type == SUR_WEIGHT_BF16) {
        for (int i = 0; i < cols; i++) out[i] = sur_bf16_to_f32(u16(p + 2 * (size_t)i));
    } else if (type == SUR_WEIGHT_F16) {
        for (int i = 0; i < cols; i++) out[i] = sur_fp16_to_f32(u16(p + 2 * (size_t)i));
    } else {
        for (int g = 0; g < cols / SUR_BLOCK_GROUP; g++) {
            struct sur_block_group group;
            sur_block_group_at(type, row, g, &group);
            const float scale[2] = {sur_block_scale(&group, 0), sur_block_scale(&group, 1)};
            const float minimum = sur_block_minimum(&group);
            for (int i = 0; i < SUR_BLOCK_GROUP; i++) *out++ = scale[i / 16] * (float)group.q[i] - minimum;
        }
    }
}
