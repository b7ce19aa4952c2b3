/* The loop of a file that is read as fast as possible, in one thread. */
#ifndef RUN_FILE_H
#define RUN_FILE_H

#include "cli/run_parts.h"

/* Captions run->in to its end, or until a signal. What was read before the input failed is still captioned. Returns an
 * exit status. */
int run_file(struct run *run);

#endif
