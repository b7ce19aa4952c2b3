/* Standard error, while libraries write to it what is not meant for people. */
#ifndef OS_STDERR_H
#define OS_STDERR_H

/* From now on descriptor 2 is a pipe, whose lines go to `line` from a thread of its own. Without the resources for
 * that it stays as it is. */
void os_stderr_divert(void (*line)(const char *text));
void os_stderr_restore(void); /* also where nothing was diverted */
int os_stderr_fd(void);       /* where our own messages go; any thread, and signal handlers */

#endif
