/* The captions on screen: a few rows that roll up. A word appears once it is complete, in a row that has room for it,
 * and never moves sideways. After CAPTIONS_HOLD_S without text the rows are empty. The terminal and the caption file
 * both show these rows.
 *
 * Pure: no output, and no clock but the caller's.
 * Thread-safety: one thread at a time per struct.
 * Units: widths in terminal columns, times in ns of sur_clock_ns().
 * Errors: none; nothing is allocated. */
#ifndef CAPTIONS_H
#define CAPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "sink/lines.h"
#include "surtitle.h"

enum {
    CAPTIONS_ROWS = 3,
    CAPTIONS_HOLD_S = 4 /* how long captions stay without new text: seconds of sound, or of time if no sound arrives */
};

struct captions {
    int width, rows;                     /* rows: 1 to CAPTIONS_ROWS */
    char row[CAPTIONS_ROWS][LINES_HELD]; /* row[rows - 1] is the growing row; "": empty */
    struct lines_words words;
    struct lines_pause pause;
    bool row_ended; /* the next word begins a new row */
    bool any;       /* a row has text */
    int64_t last_text_ns;
};

void captions_init(struct captions *c, int width, int rows);
/* Breaks rows that are wider than the new width. Otherwise every word stays in its row. */
void captions_resize(struct captions *c, int width, int rows);
/* Returns whether the rows changed. */
bool captions_event(struct captions *c, const struct sur_event *event, int64_t now_ns);
/* Clears the rows if captions_due_ns() has come; returns whether they changed. */
bool captions_tick(struct captions *c, int64_t now_ns);
/* When captions_tick will clear the rows; INT64_MAX while they are empty. */
int64_t captions_due_ns(const struct captions *c);
/* Empties the rows; returns whether they changed. */
bool captions_clear(struct captions *c);

#endif
