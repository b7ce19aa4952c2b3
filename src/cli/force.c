#include "cli/force.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "surtitle.h"
#include "util/failure.h"

int force_read(const char *path, int32_t **ids, size_t *n)
{
    char line[64];
    size_t size = 0;
    int status = SUR_OK;
    *ids = NULL;
    *n = 0;
    FILE *f = fopen(path, "re");
    if (!f) return failure(SUR_ERR_IO, "cannot read --force %s: %s", path, strerror(errno));
    while (status == SUR_OK && fgets(line, sizeof line, f)) {
        size_t digits = strspn(line, "0123456789");
        line[strcspn(line, "\r\n")] = 0;
        if (!line[0]) continue;
        if (digits == 0 || digits > 9 || line[digits]) {
            status = failure(SUR_ERR_FORMAT, "--force %s, line %zu: '%s' is not a token id", path, *n + 1, line);
        } else if (*n == size) {
            size = size ? 2 * size : 1024;
            int32_t *more = realloc(*ids, size * sizeof **ids);
            if (more)
                *ids = more;
            else
                status = failure(SUR_ERR_MEMORY, "not enough memory for --force %s", path);
        }
        if (status == SUR_OK) (*ids)[(*n)++] = (int32_t)strtol(line, NULL, 10);
    }
    if (status == SUR_OK && ferror(f))
        status = failure(SUR_ERR_IO, "cannot read --force %s: %s", path, strerror(errno));
    fclose(f);
    if (status == SUR_OK) return SUR_OK;
    free(*ids);
    *ids = NULL;
    *n = 0;
    return status;
}
