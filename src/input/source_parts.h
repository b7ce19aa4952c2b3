/* Finds the parts of a file that was joined from several recordings (cat a.mp3 b.mp3), of which libsndfile reads only
 * the first, and whether the last part is whole. Parses headers; decodes nothing. */
#ifndef SOURCE_PARTS_H
#define SOURCE_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "input/source_kind.h"

struct part {
    int64_t begin, end; /* bytes */
    bool cut;           /* the next part begins before this one is whole; not set for the last part */
};

struct parts {
    struct part *part; /* [n], n >= 1; they cover the file except for `trailing` */
    int n, room;
    bool cut;         /* the last part is truncated: pages, frames or bytes are missing */
    int64_t trailing; /* bytes at the end that libsndfile does not read: after the end given by the header, or of
                       another kind */
    const char *trailing_name; /* their kind; NULL: unknown */
};

/* Reads fd, of size bytes, by pread. Returns 0, or -1 if there is not enough memory. A file whose parts cannot be found
 * is one whole part. */
int parts_find(struct parts *parts, int fd, int64_t size, struct kind kind);
void parts_free(struct parts *parts);

#endif
