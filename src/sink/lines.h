/* Words to caption lines. Pure: no output, no clock but the steps of the stream. Blank means U+0020.
 *
 * A line ends after sentence punctuation followed by 0.6 s without text, or after 2 s without text, so in the same
 * places at any speed; and before the word that would pass its width. */
#ifndef LINES_H
#define LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LINES_SENTENCE_STEPS = 8, /* 0.64 s: the first whole step past 0.6 s */
    LINES_PAUSE_STEPS = 25,   /* 2 s */
    LINES_HELD = 2048,        /* bytes of a word, with its blanks and the terminator */
};

/* ---- when a line ends ---- */

struct lines_pause {
    int64_t last_step; /* of the last text */
    bool any;          /* there was text since the last reset */
    bool sentence;     /* it ended with sentence punctuation */
};

void lines_pause_reset(struct lines_pause *p);
/* A step's text; "" says nothing. */
void lines_pause_add(struct lines_pause *p, int64_t step, const char *text);
/* Whether a line with text is over at this step, which has none. */
bool lines_pause_over(const struct lines_pause *p, int64_t step);
/* Steps since the last text; -1 if there was none since the reset. */
int64_t lines_pause_steps(const struct lines_pause *p, int64_t step);

/* ---- words out of pieces ---- */

struct lines_words {
    char held[LINES_HELD];
    size_t n;
};

/* Adds text; returns false if it does not fit, and takes none: take the words first. */
bool lines_words_add(struct lines_words *w, const char *text);
/* Takes the oldest word with the blanks before it. all: the last one too, which more text might continue. Blanks that
 * no word follows stay. */
bool lines_words_pop(struct lines_words *w, bool all, char word[LINES_HELD]);

/* ---- words into lines ---- */

struct lines_row {
    size_t start, n; /* bytes of the text */
};

/* How many bytes of text fit width columns: up to a blank if there is one, else up to a character, at least one.
 * Blanks at its end are not counted; *next is where the rest begins, after them. */
size_t lines_fit(const char *text, int width, size_t *next);
/* Cuts the beginning off a word that is wider than width columns. Returns its bytes, 0 if the word fits or is a single
 * character; *next is where the rest begins. */
size_t lines_cut_word(const char *word, int width, size_t *next);
/* Breaks text into at most max rows; *n says how many there are. Returns where the rest begins: strlen(text) if all
 * of it fits. Blanks at the start of a row are dropped. */
size_t lines_wrap(const char *text, int width, int max, struct lines_row *rows, int *n);

#endif
