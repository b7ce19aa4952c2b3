/* --stats. */
#ifndef FIGURES_H
#define FIGURES_H

#include "cli/run_parts.h"

void figures_print(const struct run *run); /* --stats: on standard error */

#endif
