/* The files that the command line names: none that is written may be another of them. */
#ifndef NAMED_FILES_H
#define NAMED_FILES_H

#include "cli/options.h"

/* Compares SOURCE, --force, --output or standard output, --caption-file, --latency-report and the files in the folder
 * `model` (NULL: it is not known) with one another, by what they lead to: links, relative paths, descriptors, files
 * that do not exist yet. Opens and changes none of them. SUR_OK, or SUR_ERR_ARGUMENT after one line on standard error.
 * Main thread. */
int named_files_check(const struct options *options, const char *model);

#endif
