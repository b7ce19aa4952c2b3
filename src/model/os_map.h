/* A whole file mapped read-only. If the file is truncated while it is mapped, or its disk fails, a read raises SIGBUS
 * in the reading thread. No handler is installed here: the program's handler calls sur_model_fault (surtitle.h).
 *
 * Thread-safety: any thread may open, close and read. */
#ifndef SUR_MODEL_OS_MAP_H
#define SUR_MODEL_OS_MAP_H

#include <stdint.h>

struct sur_map {
    const void *data; /* page-aligned; NULL: not mapped */
    uint64_t n_bytes;
    int slot; /* of sur_model_fault's list */
};

/* Maps a regular file of 1 to max_bytes bytes. It reads the first bytes, so that the error line can name a git-lfs
 * pointer or an HTML page. On failure *map is zeroed. SUR_ERR_MODEL, SUR_ERR_MEMORY; the line begins with the last part
 * of path. */
int sur_map_open(struct sur_map *map, const char *path, uint64_t max_bytes);
void sur_map_close(struct sur_map *map); /* a zeroed map is allowed; leaves it zeroed */

#endif
