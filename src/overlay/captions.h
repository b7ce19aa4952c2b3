/* The captions on screen: a few rows that roll up. A word appears when it is whole, in a row that has room for it, and
 * never moves sideways. Gone after 4 s without text. Pure: no output, no clock of its own. */
#ifndef CAPTIONS_H
#define CAPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "sink/lines.h"
#include "surtitle.h"

enum { CAPTIONS_ROWS = 3 };
#define CAPTIONS_HOLD_NS 4000000000LL

struct captions {
    int width, rows;                     /* columns; rows kept, 1 to CAPTIONS_ROWS */
    char row[CAPTIONS_ROWS][LINES_HELD]; /* row[rows - 1] is the one that grows; "": empty */
    struct lines_words words;
    struct lines_pause pause;
    bool whole; /* the growing row has ended: the next word begins another */
    bool any;
    int64_t last_text_ns;
};

void captions_init(struct captions *c, int width, int rows);
/* Rows that are too wide are broken; otherwise every word stays in its row. */
void captions_resize(struct captions *c, int width, int rows);
/* now: sur_clock_ns(). Returns whether what is shown changed. */
bool captions_event(struct captions *c, const struct sur_event *event, int64_t now_ns);
bool captions_tick(struct captions *c, int64_t now_ns);
/* When tick will clear them; INT64_MAX when nothing is shown. */
int64_t captions_due_ns(const struct captions *c);

#endif
