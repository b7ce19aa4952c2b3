/* The cells that a terminal shall show and those that it shows, and the fewest bytes to get from one to the other.
 *
 * Pure; one thread at a time per screen. Rows and columns count from 0. Text is printable UTF-8, as in events.
 * Errors: SUR_ERR_MEMORY. */
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

/* Colours. 0 is the terminal's default. */
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

/* Sets the size; all cells are blank, and the terminal is assumed to be blank. The struct may be zeroed before. On
 * failure the screen has no cells. */
int screen_resize(struct screen *s, int rows, int cols);
void screen_finish(struct screen *s);
/* The terminal was cleared: all cells that it shows are blank. */
void screen_forget(struct screen *s);
struct cell *screen_at(struct screen *s, int row, int col);
/* Blanks columns [from, to) of a row. */
void screen_blank(struct screen *s, int row, int from, int to);
/* Writes text to the cells [col, to) of a row; returns the column after the text. */
int screen_put(struct screen *s, int row, int col, int to, const char *text, const struct screen_style *style);
/* Appends the bytes that change the terminal from `have` to `want`, with absolute cursor moves; returns whether there
 * were any. The first row of the screen is the terminal's row `top`. Afterwards attributes are reset, and the cursor's
 * place is unspecified. */
bool screen_draw(struct screen *s, int top, struct output *out);

#endif
