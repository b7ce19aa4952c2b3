/* What a terminal shall show and what it shows: cells, and the fewest bytes from one to the other. Pure.
 *
 * Rows and columns count from 0. Text is UTF-8 without control characters, as sinks get it. */
#ifndef SCREEN_H
#define SCREEN_H

#include <stdbool.h>
#include <stdint.h>

#include "sink/output.h"

enum { CELL_BYTES = 28 }; /* a character with its combining marks, and the terminator */

enum cell_attribute {
    CELL_BOLD = 1,
    CELL_DIM = 2,
    CELL_ITALIC = 4,
    CELL_UNDERLINE = 8,
    CELL_DOUBLE_UNDERLINE = 16,
    CELL_CURLY_UNDERLINE = 32,
    CELL_BLINK = 64,
    CELL_REVERSE = 128,
    CELL_STRIKE = 256,
    CELL_HIDDEN = 512,
};

/* Colours: 0 is the terminal's own. */
#define CELL_INDEXED(i)   (1u << 24 | (uint32_t)(i))
#define CELL_RGB(r, g, b) (2u << 24 | (uint32_t)(r) << 16 | (uint32_t)(g) << 8 | (uint32_t)(b))

struct cell {
    char text[CELL_BYTES]; /* "": a blank */
    uint8_t width;         /* 1, 2, or 0 for the right half of the cell before it */
    uint16_t attributes;
    uint32_t fg, bg;
};

struct screen {
    int rows, cols;
    struct cell *want, *have; /* [rows, cols] */
};

struct screen_style {
    uint16_t attributes;
    uint32_t fg, bg;
};

/* All blank, on the terminal too. A zeroed screen may be resized and finished. SUR_ERR_MEMORY leaves it empty. */
int screen_resize(struct screen *s, int rows, int cols);
void screen_finish(struct screen *s);
/* The terminal was cleared: nothing of what was drawn is there. */
void screen_forget(struct screen *s);
struct cell *screen_at(struct screen *s, int row, int col);
/* Makes [from, to) of a row blank. */
void screen_blank(struct screen *s, int row, int from, int to);
/* Writes text from col on, up to column `to`; returns the column after it. */
int screen_put(struct screen *s, int row, int col, int to, const char *text, const struct screen_style *style);
/* Appends what makes `have` into `want`, with absolute moves; returns whether there was anything. The first row stands
 * in the terminal's row `top`. Leaves the pen reset and the cursor anywhere. */
bool screen_draw(struct screen *s, int top, struct output *out);

#endif
