/* The real terminal: taken, and given back as it was, whatever happens. One at a time a process.
 *
 * While it is taken, signals are noted here and read through os_term_fd. os_term_restore may be called from anywhere,
 * signal handlers included; signals that end the program call it by themselves, but for those that somebody else
 * handles (their handler must). */
#ifndef OS_TERM_H
#define OS_TERM_H

#include <stdbool.h>

#include "overlay/filter.h"

enum os_term_signals {
    TERM_RESIZED = 1,
    TERM_STOP = 2, /* Ctrl-Z; only if nobody handled SIGTSTP before */
    TERM_CONTINUED = 4,
    TERM_CHILD = 8,
};

/* Begins to note signals: before a child is made, whose end would be missed otherwise. SUR_ERR_IO. */
int os_term_watch(void);
/* After watch. in: where keys come from, or -1; out: a terminal. whole: the alternate screen, keys raw; else keys are
 * only not echoed. SUR_ERR_IO. */
int os_term_open(int in, int out, bool whole);
void os_term_close(void);
/* Again after os_term_restore; the screen is as somebody else left it. */
void os_term_enter(void);
/* Async-signal-safe; does nothing while the terminal is not taken. */
void os_term_restore(void);
void os_term_let_go_on(void); /* after Ctrl-S, for who waits in a write */
int os_term_fd(void);         /* readable when signals came */
unsigned os_term_take_signals(void);
bool os_term_size(int fd, int *rows, int *cols); /* of any terminal, at any time */
/* What is about to be set on the terminal, so that restore undoes it. */
void os_term_note_mode(enum input_mode mode, bool on);
void os_term_note_cursor_shape(void);
void os_term_note_title(void);
/* Not whole: the first row that is ours, from 0; saved: the terminal has the cursor to go back to (DECSC). */
void os_term_note_top(int row, bool saved);

#endif
