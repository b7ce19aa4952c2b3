/* Checks the files that the command line names: none that is written may be the same as another. */
#ifndef NAMED_FILES_H
#define NAMED_FILES_H

#include "cli/options.h"

/* Compares SOURCE, --force, --output or standard output, --caption-file, --latency-report and the files in the folder
 * `model` (NULL: unknown) with one another. Resolves links, relative paths, descriptors and files that do not exist
 * yet; opens and changes none. SUR_OK, or SUR_ERR_ARGUMENT after one line on standard error. */
int named_files_check(const struct options *options, const char *model);

#endif
