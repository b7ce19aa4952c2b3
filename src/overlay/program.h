/* The command under the captions: its pseudo-terminal, the filter for what it writes, the emulated terminal that shows
 * it, and the bytes on their way to it (keys, and the emulator's answers).
 *
 * Thread-safety: the overlay's thread only.
 * Errors: SUR_ERR_IO, SUR_ERR_MEMORY, SUR_ERR_ARGUMENT, each with an error line. */
#ifndef PROGRAM_H
#define PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

#include "overlay/filter.h"
#include "overlay/modes.h"
#include "overlay/os_pty.h"
#include "overlay/vt.h"

enum { PROGRAM_INPUT_BYTES = 65536 };

struct program {
    struct os_pty pty;
    struct filter filter;
    struct vt *vt;
    struct modes modes; /* what the program set on its terminal */
    bool output_ended;  /* no process has the pseudo-terminal open any more */
    size_t n_input;
    char input[PROGRAM_INPUT_BYTES]; /* for the program to read */
};

/* No program yet: the struct may be finished. */
void program_init(struct program *p);
/* Starts a command (execvp's argument list). rows may be 0, which the program sees as 1. SUR_ERR_IO and *cannot_run:
 * the command cannot be run. */
int program_start(struct program *p, char *const *command, int rows, int cols, bool *cannot_run);
/* Frees the emulator; the pseudo-terminal was closed before (os_pty_close). */
void program_finish(struct program *p);
/* Afterwards the next vt_draw copies every row. SUR_ERR_MEMORY. */
int program_resize(struct program *p, int rows, int cols);
/* Queues bytes for the program, or drops all n if they do not fit. */
void program_add_input(struct program *p, const char *bytes, size_t n);
/* Whether there is room for keys. The rest of the queue is kept for the emulator's answers. */
bool program_takes_keys(const struct program *p);
/* Writes as much of the queue as the pseudo-terminal accepts. */
void program_send_input(struct program *p);
/* Shows what the program wrote, a limited amount per call, so that a program that never stops writing cannot stop the
 * frames. SUR_ERR_MEMORY. */
int program_read_output(struct program *p);

#endif
