/* A whole file mapped read-only. If it is cut while mapped, touching what is gone raises SIGBUS. The first map installs
 * a handler: it calls the one that was there before, whose program may have a terminal to give back, and if that
 * returns and the map was ours, it writes one line to standard error and leaves with status 1. Any thread may open,
 * close and read. */
#ifndef SUR_MODEL_OS_MAP_H
#define SUR_MODEL_OS_MAP_H

#include <stdint.h>

struct sur_map {
    const void *data; /* page-aligned; NULL: not mapped */
    uint64_t n_bytes;
    int slot; /* in the handler's list */
};

/* Maps a regular file of 1 to max_bytes bytes and reads none of it. On failure *map is zeroed. SUR_ERR_MODEL,
 * SUR_ERR_MEMORY; the line begins with the last part of path. */
int sur_map_open(struct sur_map *map, const char *path, uint64_t max_bytes);
void sur_map_close(struct sur_map *map); /* takes a zeroed one, leaves one */

#endif
