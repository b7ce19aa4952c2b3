/* Standard output and standard error, protected from libraries that write to descriptors 1 and 2.
 *
 * os_stderr_divert moves both descriptors to new numbers and replaces them by a pipe, whose lines go to the log. The
 * program itself writes only to os_stdout_fd and os_stderr_fd. Thread-safety: any thread unless stated otherwise. */
#ifndef OS_STDERR_H
#define OS_STDERR_H

#include <stdbool.h>
#include <stddef.h>

/* From now on a thread of this file passes each line that is written to descriptor 1 or 2 to `line`. Both descriptors
 * stay as they are if a pipe or a thread cannot be created. Main thread, once. */
void os_stderr_divert(void (*line)(const char *text));
/* Ends the diversion: passes the rest on, makes descriptor 2 standard error again, and leaves descriptor 1 unwritable,
 * so that no buffer of a library is flushed among the captions. os_stdout_fd and os_stderr_fd stay valid. Main thread.
 * No effect if nothing was diverted. */
void os_stderr_restore(void);
int os_stdout_fd(void);
int os_stderr_fd(void);
/* Writes to standard error. If the reader accepts nothing it waits for half a second, or not at all if the last call
 * has waited in vain, and returns false: the text, or its end, is lost. Ignores other failures and returns true.
 * Async-signal-safe. */
bool os_stderr_write(const char *text, size_t n);
/* For the handler of a crash, and for exit(3) before os_stderr_restore: writes the last output of libraries, such as
 * the text of a failed assertion, to standard error. Async-signal-safe. */
void os_stderr_show_last(void);

#endif
