/* One run: opens its parts, captions until the end, closes them.
 *
 * Checked in this order, so that the exit status names the first thing that is wrong: options (2), source (1, 3),
 * model (4), backend (5), outputs (1). */
#ifndef RUN_H
#define RUN_H

#include "cli/run_parts.h"

/* run: zeros, but for its options. Main thread. Returns the exit status, after one line if it is not EXIT_DONE. */
int run_all(struct run *run);

#endif
