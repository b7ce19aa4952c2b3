/* The overlay of a run: whether it is drawn, what it shows, and how it changes the exit status. Main thread. Without an
 * overlay the calls after run_overlay_open do nothing. */
#ifndef RUN_OVERLAY_H
#define RUN_OVERLAY_H

#include "cli/run_parts.h"

/* Sets run->drawn if --overlay or CMD was given and standard output is a terminal that can show it. Returns an exit
 * status. Before the outputs are opened. */
int run_overlay_check(struct run *run);
/* If run->drawn: takes the terminal and starts CMD; from now on messages are shown in the overlay. Returns an exit
 * status. */
int run_overlay_open(struct run *run);
/* level: loudness, 0 to 1. lag_seconds: how far the captions are behind; negative: not known. */
void run_overlay_set_state(struct run *run, float level, double lag_seconds);
/* Before and after SIGSTOP, if the caller handles SIGTSTP; otherwise the overlay does. */
void run_overlay_suspend(struct run *run);
void run_overlay_resume(struct run *run);
/* The captions have ended with this status. Waits for CMD or, without one, until the last caption is cleared; gives the
 * terminal back, and then prints the messages of the meantime. Returns the exit status of the run. */
int run_overlay_close(struct run *run, int status);

#endif
