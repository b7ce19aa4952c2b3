/* Runs a program in a pseudo-terminal.
 *
 * Thread-safety: one thread at a time per struct.
 * Errors: SUR_ERR_IO, with a line that names the command. */
#ifndef OS_PTY_H
#define OS_PTY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct os_pty {
    int master;         /* non-blocking; -1: none */
    pid_t pid;          /* 0: none, or it has been waited for */
    int64_t hung_up_ns; /* 0: not yet */
};

/* Starts command (execvp's argument list) with TERM=xterm-256color. Its signals have default handlers and are not
 * blocked. SUR_ERR_IO: no pseudo-terminal, or the command cannot be run. */
int os_pty_start(struct os_pty *pty, char *const *command, int rows, int cols);
void os_pty_resize(struct os_pty *pty, int rows, int cols);
/* Returns whether the program has ended; *status is its exit status, 128+n after signal n. Does not wait. */
bool os_pty_ended(struct os_pty *pty, int *status);
/* Closes the pseudo-terminal, so that the kernel sends SIGHUP. */
void os_pty_hang_up(struct os_pty *pty);
/* Hangs up, and waits until the program has ended, at most 2 s after the hang-up. *status: as above, 128+SIGHUP if the
 * program still runs, unchanged if it had been waited for. */
void os_pty_close(struct os_pty *pty, int *status);

#endif
