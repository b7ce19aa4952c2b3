/* Quantised matrices in the order in which the integer products (quant.h) read them.
 *
 * A tile is 16 rows over all columns. Tiles follow one another, so a thread that computes a range of rows reads
 * contiguous memory. Within a tile the columns are divided into blocks of 256 (Q8_0: the last one may be shorter and is
 * filled up with zeros). A block holds its scales, then 8 groups:
 *
 *   Q4_K  d [16] fp16, dmin [16] fp16, scale [8][16] u8, minimum [8][16] u8, groups of nibbles
 *   Q5_K  the same, groups of bytes
 *   Q6_K  d [16] fp16, 32 bytes unused, scale [16][16] int8, groups of bytes
 *   Q8_0  d [8][16] fp16, groups of bytes
 *
 * A group is 32 columns of the 16 rows: row r's four columns k .. k + 3 are the dword 16 (k / 4) + r, one byte per
 * column. In a group of nibbles the low nibbles of row r's dword j hold columns 8 j .. 8 j + 3 and the high nibbles
 * columns 8 j + 4 .. 8 j + 7. Bytes are unsigned: Q6_K's are the value plus 32, Q8_0's the value plus 128. Rows past
 * the matrix are zeros. */
#ifndef SUR_CPU_PACKED_H
#define SUR_CPU_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/view.h"

enum {
    SUR_TILE_ROWS = 16,
    SUR_GROUP = 32,
    SUR_BLOCK_GROUPS = 8,
    SUR_NIBBLE_GROUP_BYTES = SUR_TILE_ROWS * SUR_GROUP / 2,
    SUR_BYTE_GROUP_BYTES = SUR_TILE_ROWS * SUR_GROUP,
    /* offsets in a block */
    SUR_PACKED_DMIN = 2 * SUR_TILE_ROWS,
    SUR_PACKED_SCALES = 4 * SUR_TILE_ROWS,                                    /* Q4_K, Q5_K, Q6_K */
    SUR_PACKED_MINIMA = SUR_PACKED_SCALES + SUR_BLOCK_GROUPS * SUR_TILE_ROWS, /* Q4_K, Q5_K */
    SUR_PACKED_K_GROUPS = SUR_PACKED_SCALES + 2 * SUR_BLOCK_GROUPS * SUR_TILE_ROWS,
    SUR_PACKED_Q8_GROUPS = 2 * SUR_BLOCK_GROUPS * SUR_TILE_ROWS,
};

struct sur_packed {
    enum sur_weight_type type;
    int rows, cols;
    size_t tile_bytes;
    uint8_t *data; /* [tiles][tile_bytes], 64-byte aligned */
};

/* Returns the bytes of a block of 16 rows. */
static inline size_t sur_packed_block_bytes(enum sur_weight_type type)
{
    return type == SUR_WEIGHT_Q8_0
               ? SUR_PACKED_Q8_GROUPS + SUR_BLOCK_GROUPS * SUR_BYTE_GROUP_BYTES
               : SUR_PACKED_K_GROUPS +
                     SUR_BLOCK_GROUPS * (type == SUR_WEIGHT_Q4_K ? SUR_NIBBLE_GROUP_BYTES : SUR_BYTE_GROUP_BYTES);
}

/* Computes the sizes of a packed matrix; data stays NULL. cols is a multiple of sur_block_values(type). */
void sur_packed_describe(struct sur_packed *packed, enum sur_weight_type type, int rows, int cols);
size_t sur_packed_bytes(const struct sur_packed *packed);
/* Fills tiles tile0 .. tile1 - 1 of packed->data from a view of the same type and shape; packed rows are in the model's
 * order. Several threads may fill different tiles. */
void sur_packed_fill(const struct sur_packed *packed, const struct sur_view *view, int tile0, int tile1);
/* Converts one row to fp32, out [cols], with the same result as sur_dequantise_row. */
void sur_packed_row(const struct sur_packed *packed, int row, float *out);

#endif
