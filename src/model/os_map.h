/* A whole file mapped read-only. If the file is cut while it is mapped, or its disk fails, touching what cannot be read
 * raises SIGBUS in the thread that does. No handler is installed here: sur_model_fault (surtitle.h) tells the program's
 * own whether an address lies in a map, and what is wrong there. Any thread may open, close and read. */
#ifndef SUR_MODEL_OS_MAP_H
#define SUR_MODEL_OS_MAP_H

#include <stdint.h>

struct sur_map {
    const void *data; /* page-aligned; NULL: not mapped */
    uint64_t n_bytes;
    int slot; /* in sur_model_fault's list */
};

/* Maps a regular file of 1 to max_bytes bytes; reads its first bytes to say in the error what a file that cannot be one
 * of a model is (a git-lfs pointer, an HTML page). On failure *map is zeroed. SUR_ERR_MODEL, SUR_ERR_MEMORY; the line
 * begins with the last part of path. */
int sur_map_open(struct sur_map *map, const char *path, uint64_t max_bytes);
void sur_map_close(struct sur_map *map); /* takes a zeroed one, leaves one */

#endif
