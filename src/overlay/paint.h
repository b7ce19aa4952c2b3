/* Where things stand on the terminal, and the rows that are ours: captions and the line of state. Pure. */
#ifndef PAINT_H
#define PAINT_H

#include <stdbool.h>

#include "overlay/screen.h"
#include "overlay/state.h"
#include "sink/captions.h"

struct layout {
    int rows, cols;    /* the terminal's */
    int program_rows;  /* the program's, from the top; 0: there is none */
    int status_row;    /* in the screen; -1: no room */
    int caption_row;   /* the first, in the screen */
    int caption_rows;  /* 0: no room */
    int margin, width; /* columns before the captions, and theirs */
    int top;           /* the terminal's row in which the screen begins */
    int screen_rows;
};

/* width 0: 80 columns, or as many as there are. */
void layout_make(struct layout *l, int rows, int cols, bool program, int width);
void paint_captions(struct screen *s, const struct layout *l, const struct captions *c);
/* problem: "" for none. */
void paint_status_line(struct screen *s, const struct layout *l, const struct overlay_state *state, const char *problem,
                       bool colour);

#endif
