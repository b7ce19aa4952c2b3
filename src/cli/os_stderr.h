/* Standard output and standard error of the process, kept from libraries that write to descriptors 1 and 2.
 *
 * os_stderr_divert moves both descriptors to numbers of their own and puts a pipe in their place, whose lines go to the
 * log. The program itself writes to os_stdout_fd and os_stderr_fd only. Any thread unless stated otherwise. */
#ifndef OS_STDERR_H
#define OS_STDERR_H

#include <stdbool.h>
#include <stddef.h>

/* From now on each line that is written to descriptor 1 or 2 is passed to `line`, from a thread of this file. Where a
 * pipe or a thread cannot be made, both descriptors stay as they are. Main thread, once. */
void os_stderr_divert(void (*line)(const char *text));
/* Ends the diversion: the rest is passed on, descriptor 2 is standard error again, and descriptor 1 leads nowhere, so
 * that nothing that a library still holds back gets among the captions. os_stdout_fd and os_stderr_fd stay valid. Main
 * thread; also where nothing was diverted. */
void os_stderr_restore(void);
int os_stdout_fd(void);
int os_stderr_fd(void);
/* Writes to standard error. Waits at most half a second for a reader that takes nothing, and not at all once that was
 * in vain; false: the text, or the end of it, is lost for that reason. Any other failure returns true, because nothing
 * can be done about it. Async-signal-safe. */
bool os_stderr_write(const char *text, size_t n);
/* For the handler of a crash, and for exit(3) before os_stderr_restore: writes what the C library and other libraries
 * said last, such as the text of a failed assertion, to standard error. Async-signal-safe. */
void os_stderr_show_last(void);

#endif
