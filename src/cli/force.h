/* --force: token ids, one per line. */
#ifndef FORCE_H
#define FORCE_H

#include <stddef.h>
#include <stdint.h>

/* Reads the file; the caller frees *ids. SUR_OK, or SUR_ERR_FORMAT, SUR_ERR_IO or SUR_ERR_MEMORY with a line
 * (util/failure.h). */
int force_read(const char *path, int32_t **ids, size_t *n);

#endif
