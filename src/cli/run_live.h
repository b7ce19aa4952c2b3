/* The main thread of a live run: decodes, writes, handles signals and the microphone's events. */
#ifndef RUN_LIVE_H
#define RUN_LIVE_H

#include "cli/run_parts.h"

/* Captions run->in, which is live, until it ends or a signal comes. Returns an exit status. */
int run_live(struct run *run);

#endif
