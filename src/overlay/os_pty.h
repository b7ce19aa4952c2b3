/* A program in a pseudo-terminal of its own. */
#ifndef OS_PTY_H
#define OS_PTY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct os_pty {
    int master;         /* not blocking; -1: none */
    pid_t pid;          /* 0: none, or its end was seen */
    int64_t hung_up_ns; /* 0: not yet */
};

/* Runs command (from PATH, as a shell would) with TERM=xterm-256color. SUR_ERR_IO names what could not be run. Signals
 * are as a new program expects them, whatever this one has done with its own. */
int os_pty_start(struct os_pty *pty, char *const *command, int rows, int cols);
void os_pty_resize(struct os_pty *pty, int rows, int cols);
/* Whether it has ended; *status: its exit status, 128+n after signal n. Does not wait. */
bool os_pty_ended(struct os_pty *pty, int *status);
void os_pty_hang_up(struct os_pty *pty);
/* Hangs up. One that has not ended gets two seconds from then on; *status as above, 128+SIGHUP if it stays. */
void os_pty_close(struct os_pty *pty, int *status);

#endif
