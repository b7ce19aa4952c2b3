/* Words, and where lines break. "Blank" means U+0020. Text is valid UTF-8, terminated.
 *
 * A line ends after sentence punctuation followed by 0.6 s without text, or after 2 s without text. Both are counted in
 * steps, so that lines break at the same places at any speed. A line also ends before a word that would exceed its
 * width.
 *
 * Pure; one thread at a time per struct. Nothing is allocated.
 * Units: widths in terminal columns. */
#ifndef LINES_H
#define LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    LINES_SENTENCE_STEPS = 8, /* 0.64 s: the first whole step above 0.6 s */
    LINES_PAUSE_STEPS = 25,   /* 2 s */
    LINES_HELD = 2048,        /* bytes of the words that are held, with the terminator */
};

/* ---- when a line ends ---- */

struct lines_pause {
    int64_t last_step; /* of the last text */
    bool any;          /* there was text since the last reset */
    bool sentence;     /* that text ended with sentence punctuation */
};

void lines_pause_reset(struct lines_pause *p);
/* Notes the text of a step; "" is ignored. */
void lines_pause_add(struct lines_pause *p, int64_t step, const char *text);
/* Returns whether a line ends at this step, which has no text. */
bool lines_pause_over(const struct lines_pause *p, int64_t step);
/* Returns the steps since the last text; -1 if there was none since the reset. */
int64_t lines_pause_steps(const struct lines_pause *p, int64_t step);

/* ---- words from pieces ---- */

struct lines_words {
    char held[LINES_HELD];
    size_t n;
};

/* Adds text. Returns false, without adding any, if the text does not fit: pop the words first. */
bool lines_words_add(struct lines_words *w, const char *text);
/* Removes the oldest word, with the blanks before it. Returns false if there is none. The last word may be continued by
 * the next text, so it is removed only if `all` is set. Blanks that no word follows stay. */
bool lines_words_pop(struct lines_words *w, bool all, char word[LINES_HELD]);

/* ---- lines from words ---- */

struct lines_row {
    size_t start, n; /* bytes of the text */
};

/* Returns how many bytes of text fit width columns: up to a blank if there is one, otherwise up to a character, and at
 * least one character. Blanks at the end are not counted; *next is where the rest begins, after them. */
size_t lines_fit(const char *text, int width, size_t *next);
/* Cuts the beginning off a word that is wider than width columns. Returns its bytes, 0 if the word fits or is a single
 * character; *next is where the rest begins. */
size_t lines_cut_word(const char *word, int width, size_t *next);
/* Breaks text into at most max rows, *n of them, without the blanks at their start. Returns where the rest begins:
 * strlen(text) if the text fits. */
size_t lines_wrap(const char *text, int width, int max, struct lines_row *rows, int *n);

#endif
