/* The real terminal: taken, and given back as it was in every case. One per process.
 *
 * Signals that concern the terminal are noted, and read through os_term_fd. A signal that ends the program calls
 * os_term_restore, unless it had a handler before os_term_watch: that handler must call it.
 *
 * Thread-safety: one thread at a time; os_term_restore, os_term_is_lost and os_term_size from any thread.
 * Errors: SUR_ERR_IO. */
#ifndef OS_TERM_H
#define OS_TERM_H

#include <stdbool.h>
#include <stddef.h>

#include "overlay/filter.h"

enum os_term_signals {
    TERM_RESIZED = 1,
    TERM_STOP = 2, /* Ctrl-Z; only if SIGTSTP had no handler before */
    TERM_CONTINUED = 4,
    TERM_CHILD = 8,
};

/* Begins to note signals. Call it before the child is created, whose end would be missed otherwise. */
int os_term_watch(void);
/* Opens the terminal `out`, without taking it; call os_term_watch first. in: the keyboard, or -1. whole: use the
 * alternate screen, with keys in raw mode; otherwise only echo is turned off. Stops a background process (SIGTTOU). */
int os_term_open(int in, int out, bool whole);
/* Restores and closes. */
void os_term_close(void);
/* Returns whether the process is in the terminal's foreground, or the terminal is not its controlling one. A background
 * process must not change or write the terminal. */
bool os_term_is_ours(void);
/* Takes the terminal. Returns the sequence that must be written to it first. What the screen shows is unknown. */
const char *os_term_enter(void);
/* Gives the terminal back: nothing is written if the process is in the background. Takes at most 1 s. Does nothing if
 * the terminal is not taken. Async-signal-safe. */
void os_term_restore(void);
/* Returns whether os_term_restore failed because the terminal accepted no data. */
bool os_term_is_lost(void);
/* Writes without waiting. Returns the number of bytes written, 0 while the terminal accepts none, -1 if it has gone.
 * Async-signal-safe. */
ptrdiff_t os_term_write(const char *bytes, size_t n);
int os_term_fd(void); /* readable after a signal */
/* Returns the signals since the last call, as bits of enum os_term_signals. */
unsigned os_term_take_signals(void);
/* Returns false, and leaves rows and cols as they are, if fd is not a terminal or its size is unknown. */
bool os_term_size(int fd, int *rows, int *cols);
/* Note what is about to be set on the terminal, so that os_term_restore undoes it. */
void os_term_note_mode(enum input_mode mode, bool on);
void os_term_note_cursor_shape(void);
void os_term_note_title(void);
/* Without `whole`: the captions' first row, from 0, which is cleared from there on; -1: none. saved: the terminal has
 * saved the cursor to return to (DECSC). */
void os_term_note_top(int row, bool saved);

#endif
