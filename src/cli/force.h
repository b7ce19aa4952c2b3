/* --force: token ids, one a line. */
#ifndef FORCE_H
#define FORCE_H

#include <stddef.h>
#include <stdint.h>

/* *ids is the caller's to free. SUR_ERR_FORMAT names the line, SUR_ERR_IO the file, SUR_ERR_MEMORY. */
int force_read(const char *path, int32_t **ids, size_t *n);

#endif
