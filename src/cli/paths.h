/* Where the model is looked for. */
#ifndef PATHS_H
#define PATHS_H

#include <stdbool.h>
#include <stddef.h>

/* $XDG_DATA_HOME/surtitle/model, each of $XDG_DATA_DIRS, then the demo model (*demo set): the source tree's when the
 * program runs from its build folder, else the installed one. A folder counts if it has a params.json, which makes it a
 * model, or files NAME.gguf, each of which is one. Returns 1: path is the model; 0: there is none; 2: path is a folder
 * that holds more than one. */
int paths_find_model(char *path, size_t size, bool *demo);

#endif
