/* Options that exclude or require one another. */
#ifndef USAGE_H
#define USAGE_H

#include "cli/options.h"

/* EXIT_DONE, or EXIT_USAGE after one line. Sets options->output to NULL where it names standard output. model: the
 * model's path, NULL if there is none. Opens no file. */
int usage_check(struct options *options, const char *model);

#endif
