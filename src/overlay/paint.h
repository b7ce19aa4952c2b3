/* The layout of the terminal, and the cells of the rows that are not the program's: captions and status line.
 *
 * Pure; one thread at a time per screen. Rows and columns count from 0. */
#ifndef PAINT_H
#define PAINT_H

#include <stdbool.h>

#include "overlay/screen.h"
#include "overlay/state.h"
#include "sink/captions.h"

struct layout {
    int rows, cols;    /* the terminal's */
    int program_rows;  /* the program's, from the top; 0: no program */
    int status_row;    /* row of the screen; -1: no room */
    int caption_row;   /* first row of the screen with captions */
    int caption_rows;  /* 0: no room */
    int margin, width; /* columns to the left of the captions, and of the captions */
    int top;           /* the terminal's row where the screen begins */
    int screen_rows;
};

/* width: columns of captions; 0: 80. Limited to the terminal's. */
void layout_make(struct layout *l, int rows, int cols, bool program, int width);
void paint_captions(struct screen *s, const struct layout *l, const struct captions *c);
/* problem: "" for none. */
void paint_status_line(struct screen *s, const struct layout *l, const struct overlay_state *state, const char *problem,
                       bool colour);

#endif
