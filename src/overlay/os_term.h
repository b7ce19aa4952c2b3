/* The real terminal: taken, and given back as it was, whatever happens. One at a time a process.
 *
 * While it is taken, signals are noted here and read through os_term_fd. os_term_restore may be called from anywhere,
 * signal handlers included; signals that end the program call it by themselves, but for those that somebody else
 * handles (their handler must). */
#ifndef OS_TERM_H
#define OS_TERM_H

#include <stdbool.h>
#include <stddef.h>

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
 * only not echoed. The terminal is not taken yet. In the background this stops the process (SIGTTOU). SUR_ERR_IO. */
int os_term_open(int in, int out, bool whole);
void os_term_close(void);
/* Whether the process is in the terminal's foreground, or the terminal is not its controlling one. In the background
 * the terminal is another program's, and must be left alone. */
bool os_term_is_ours(void);
/* Takes the terminal; the screen is as another program left it. Returns what must be written to it first. */
const char *os_term_enter(void);
/* Gives the terminal back: at most 1 s, less if it is not ours. Async-signal-safe; does nothing while the terminal is
 * not taken. */
void os_term_restore(void);
bool os_term_is_lost(void); /* the terminal took nothing, so that os_term_restore could not write to it */
/* write(2) that never waits: the number of bytes written, 0 while the terminal takes nothing, -1 if it has gone. */
ptrdiff_t os_term_write(const char *bytes, size_t n);
int os_term_fd(void); /* readable when signals came */
unsigned os_term_take_signals(void);
bool os_term_size(int fd, int *rows, int *cols); /* of any terminal, at any time */
/* What is about to be set on the terminal, so that restore undoes it. */
void os_term_note_mode(enum input_mode mode, bool on);
void os_term_note_cursor_shape(void);
void os_term_note_title(void);
/* Not whole: the first row that is ours, from 0; saved: the terminal has the cursor to go back to (DECSC). */
void os_term_note_top(int row, bool saved);

#endif
