/* Finds the installed model. */
#ifndef PATHS_H
#define PATHS_H

#include <stdbool.h>
#include <stddef.h>

/* $XDG_DATA_HOME/surtitle/model, each of $XDG_DATA_DIRS, then the demo model (*demo set): the source tree's when the
 * program runs from its build folder, else the installed one. A folder with a params.json is a model; in another folder
 * each file NAME.gguf is one. Returns 1: path is the model; 0: there is none; 2: path is a folder with more than one.
 */
int paths_find_model(char *path, size_t size, bool *demo);

#endif
