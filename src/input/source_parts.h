/* Where in a file the recordings begin and end that somebody joined (cat a.mp3 b.mp3): libsndfile stops at the end of
 * the first. And whether the last one is whole. By headers alone: nothing is decoded. */
#ifndef SUR_AUDIO_SOURCE_PARTS_H
#define SUR_AUDIO_SOURCE_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "input/source_kind.h"

struct part {
    int64_t begin, end; /* bytes */
    bool cut;           /* the next one begins before this one is whole; not set for the last one */
};

struct parts {
    struct part *part; /* [n], n >= 1; they cover the file but for what is behind */
    int n, room;
    bool cut;       /* the last one has no end of its own: pages, frames or bytes are missing */
    int64_t behind; /* bytes that libsndfile does not read: behind the end that the header says, or of another kind */
    const char *behind_name; /* of that kind; NULL: not known */
};

/* Reads fd by pread; size: of the file. 0, or -1: no memory. What cannot be told is one whole part. */
int parts_find(struct parts *parts, int fd, int64_t size, struct kind kind);
void parts_free(struct parts *parts);

#endif
