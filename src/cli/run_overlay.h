/* The overlay of a run: whether there is one, what it is told, and what it means for the exit status. Each takes a run
 * without an overlay, and then does nothing. */
#ifndef RUN_OVERLAY_H
#define RUN_OVERLAY_H

#include "cli/run.h"

/* Sets run->draws: --overlay or a command was asked for, and standard output is a terminal that can show it. EXIT_DONE,
 * or the exit status after one line. Before the outputs are opened. */
int run_overlay_check(struct run *run);
/* Takes the terminal and starts the command; from now on messages are shown in it. */
int run_overlay_open(struct run *run);
/* How loud samples are, 0 to 1. */
float run_overlay_level(const float *samples, size_t n);
/* lag_seconds: how far the captions are behind; negative: not known. */
void run_overlay_tell(struct run *run, float level, double lag_seconds);
/* Around a stop (SIGSTOP) by who handles SIGTSTP; where nobody does, the overlay sees to it. */
void run_overlay_suspend(struct run *run);
void run_overlay_resume(struct run *run);
/* The captions have ended with this status: waits for the command, or until the last caption has vanished, gives the
 * terminal back, and says there what was said meanwhile. Returns the run's exit status. */
int run_overlay_close(struct run *run, int status);

#endif
