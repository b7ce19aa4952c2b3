#include "cpu/packed.h"

#include <string.h>

#include "util/half.h"

enum { DWORDS = 8 /* of a group of bytes, per row */, LOW = 0x0f0f0f0f };

void sur_packed_describe(struct sur_packed *p, enum sur_weight_type type, int rows, int cols)
{
    enum { COLUMNS = SUR_BLOCK_GROUPS * SUR_GROUP };
    *p = (struct sur_packed){.type = type, .rows = rows, .cols = cols};
    p->tile_bytes = (size_t)((cols + COLUMNS - 1) / COLUMNS) * sur_packed_block_bytes(type);
}

size_t sur_packed_bytes(const struct sur_packed *p)
{
    return (size_t)((p->rows + SUR_TILE_ROWS - 1) / SUR_TILE_ROWS) * p->tile_bytes;
}

/* ---- packing: one row's block of the file into its lane of a super-block ---- */

static uint32_t dword(const uint8_t *p)
{
    uint32_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

static void put(uint8_t *group, int j, int row, uint32_t u)
{
    memcpy(group + (j * SUR_TILE_ROWS + row) * 4, &u, sizeof u);
}

/* The 6-bit scales and minima of Q4_K and Q5_K: four low ones as they are, four whose top bits lie in the first eight
 * bytes. */
static void unpack_scales(const uint8_t s[12], uint8_t scale[SUR_BLOCK_GROUPS], uint8_t minimum[SUR_BLOCK_GROUPS])
{
    for (int g = 0; g < 4; g++) {
        scale[g] = s[g] & 63;
        minimum[g] = s[4 + g] & 63;
        scale[4 + g] = (uint8_t)((s[8 + g] & 15) | (s[g] >> 6) << 4);
        minimum[4 + g] = (uint8_t)(s[8 + g] >> 4 | (s[4 + g] >> 6) << 4);
    }
}

/* d, dmin, 12 bytes of scales: the head of Q4_K's and of Q5_K's blocks. */
static void pack_head(uint8_t *to, const uint8_t *from, int row)
{
    uint8_t scale[SUR_BLOCK_GROUPS], minimum[SUR_BLOCK_GROUPS];
    memcpy(to + 2 * row, from, 2);
    memcpy(to + SUR_PACKED_DMIN + 2 * row, from + 2, 2);
    unpack_scales(from + 4, scale, minimum);
    for (int g = 0; g < SUR_BLOCK_GROUPS; g++) {
        to[SUR_PACKED_SCALES + g * SUR_TILE_ROWS + row] = scale[g];
        to[SUR_PACKED_MINIMA + g * SUR_TILE_ROWS + row] = minimum[g];
    }
}

/* 32 bytes of the file hold group 2 i in their low nibbles and group 2 i + 1 in their high ones. */
static void pack_q4(uint8_t *to, const uint8_t *from, int row)
{
    pack_head(to, from, row);
    for (int i = 0; i < SUR_BLOCK_GROUPS / 2; i++) {
        const uint8_t *q = from + 16 + i * SUR_GROUP;
        uint8_t *even = to + SUR_PACKED_K_GROUPS + 2 * i * SUR_NIBBLE_GROUP_BYTES, *odd = even + SUR_NIBBLE_GROUP_BYTES;
        for (int j = 0; j < DWORDS / 2; j++) {
            uint32_t a = dword(q + 8 * j), b = dword(q + 8 * j + 4);
            put(even, j, row, (a & LOW) | (b & LOW) << 4);
            put(odd, j, row, (a >> 4 & LOW) | (b & ~(uint32_t)LOW));
        }
    }
}

/* The fifth bits: bit g of qh[k] belongs to column k of group g. */
static void pack_q5(uint8_t *to, const uint8_t *from, int row)
{
    const uint8_t *high = from + 16;
    pack_head(to, from, row);
    for (int g = 0; g < SUR_BLOCK_GROUPS; g++) {
        const uint8_t *q = from + 48 + g / 2 * SUR_GROUP;
        for (int j = 0; j < DWORDS; j++) {
            uint32_t low = dword(q + 4 * j) >> 4 * (g % 2) & LOW, top = dword(high + 4 * j) >> g & 0x01010101;
            put(to + SUR_PACKED_K_GROUPS + g * SUR_BYTE_GROUP_BYTES, j, row, low | top << 4);
        }
    }
}

/* Each half of 128 columns has 64 bytes of low nibbles and 32 bytes of high pairs of bits: its columns 32 i .. 32 i +
 * 31 take nibble i / 2 of bytes 32 (i % 2) .. and bits 2 i of the pairs. */
static void pack_q6(uint8_t *to, const uint8_t *from, int row)
{
    const uint8_t *scales = from + 192;
    memcpy(to + 2 * row, from + 208, 2);
    for (int s = 0; s < 2 * SUR_BLOCK_GROUPS; s++) to[SUR_PACKED_SCALES + s * SUR_TILE_ROWS + row] = scales[s];
    for (int g = 0; g < SUR_BLOCK_GROUPS; g++) {
        const uint8_t *low = from + g / 4 * 64 + g % 2 * SUR_GROUP, *high = from + 128 + g / 4 * SUR_GROUP;
        for (int j = 0; j < DWORDS; j++) {
            uint32_t l = dword(low + 4 * j) >> 4 * (g % 4 / 2) & LOW,
                     h = dword(high + 4 * j) >> 2 * (g % 4) & 0x03030303;
            put(to + SUR_PACKED_K_GROUPS + g * SUR_BYTE_GROUP_BYTES, j, row, l | h << 4);
        }
    }
}

/* A block of the file is one group. */
static void pack_q8(uint8_t *to, const uint8_t *from, int row, int g)
{
    memcpy(to + (g * SUR_TILE_ROWS + row) * 2, from, 2);
    for (int j = 0; j < DWORDS; j++)
        put(to + SUR_PACKED_Q8_GROUPS + g * SUR_BYTE_GROUP_BYTES, j, row, dword(from + 2 + 4 * j) ^ 0x80808080u);
}

static void pack_row(const struct sur_packed *p, uint8_t *tile, const uint8_t *from, int row)
{
    const size_t from_bytes = sur_block_bytes(p->type), to_bytes = sur_packed_block_bytes(p->type);
    const int n = p->cols / sur_block_values(p->type);
    for (int i = 0; i < n; i++, from += from_bytes) {
        uint8_t *to = tile + (size_t)(p->type == SUR_WEIGHT_Q8_0 ? i / SUR_BLOCK_GROUPS : i) * to_bytes;
        if (p->type == SUR_WEIGHT_Q4_K)
            pack_q4(to, from, row);
        else if (p->type == SUR_WEIGHT_Q5_K)
            pack_q5(to, from, row);
        else if (p->type == SUR_WEIGHT_Q6_K)
            pack_q6(to, from, row);
        else
            pack_q8(to, from, row, i % SUR_BLOCK_GROUPS);
    }
}

void sur_packed_fill(const struct sur_packed *p, const struct sur_view *view, int tile0, int tile1)
{
    const bool filled_up = p->cols % (SUR_BLOCK_GROUPS * SUR_GROUP) != 0;
    for (int tile = tile0; tile < tile1; tile++) {
        uint8_t *to = p->data + (size_t)tile * p->tile_bytes;
        int left = p->rows - tile * SUR_TILE_ROWS, n_rows = left < SUR_TILE_ROWS ? left : SUR_TILE_ROWS;
        if (filled_up || n_rows < SUR_TILE_ROWS) memset(to, 0, p->tile_bytes);
        for (int row = 0; row < n_rows; row++) pack_row(p, to, sur_view_row(view, tile * SUR_TILE_ROWS + row), row);
    }
}

/* ---- unpacking ---- */

static float half_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return sur_fp16_to_f32(h);
}

static int column(const uint8_t *group, int row, int k, bool nibbles)
{
    if (!nibbles) return group[(k / 4 * SUR_TILE_ROWS + row) * 4 + k % 4];
    return group[(k / 8 * SUR_TILE_ROWS + row) * 4 + k % 4] >> (k / 4 % 2 * 4) & 15;
}

/* Of a block: row's columns k .. k + 15, which share a scale. */
static void unpack_half_group(enum sur_weight_type type, const uint8_t *block, int row, int k, float out[16])
{
    const int g = k / SUR_GROUP;
    const bool nibbles = type == SUR_WEIGHT_Q4_K, q8 = type == SUR_WEIGHT_Q8_0, q6 = type == SUR_WEIGHT_Q6_K;
    const uint8_t *group = block + (q8 ? SUR_PACKED_Q8_GROUPS : SUR_PACKED_K_GROUPS) +
                           g * (nibbles ? SUR_NIBBLE_GROUP_BYTES : SUR_BYTE_GROUP_BYTES);
    float scale = half_at(block + 2 * (q8 ? g * SUR_TILE_ROWS + row : row)), minimum = 0;
    if (q6) {
        scale *= (float)(int8_t)block[SUR_PACKED_SCALES + k / 16 * SUR_TILE_ROWS + row];
    } else if (!q8) {
        scale *= (float)block[SUR_PACKED_SCALES + g * SUR_TILE_ROWS + row];
        minimum =
            half_at(block + SUR_PACKED_DMIN + 2 * row) * (float)block[SUR_PACKED_MINIMA + g * SUR_TILE_ROWS + row];
    }
    for (int i = 0; i < 16; i++) {
        int q = column(group, row, (k + i) % SUR_GROUP, nibbles) - (q8 ? 128 : q6 ? 32 : 0);
        out[i] = scale * (float)q - minimum;
    }
}

void sur_packed_row(const struct sur_packed *p, int row, float *out)
{
    const uint8_t *tile = p->data + (size_t)(row / SUR_TILE_ROWS) * p->tile_bytes;
    for (int k = 0; k < p->cols; k += 16) {
        const int block = k / (SUR_BLOCK_GROUPS * SUR_GROUP);
        unpack_half_group(p->type, tile + (size_t)block * sur_packed_block_bytes(p->type), row % SUR_TILE_ROWS,
                          k % (SUR_BLOCK_GROUPS * SUR_GROUP), out + k);
    }
}
