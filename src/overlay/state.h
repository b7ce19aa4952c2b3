/* What the status line shows. */
#ifndef OVERLAY_STATE_H
#define OVERLAY_STATE_H

enum { OVERLAY_PROBLEM_BYTES = 256 }; /* of a line that says what is wrong, with its terminator */

struct overlay_state {
    char name[128];    /* of the source or device: clean text */
    float level;       /* loudness of the latest sound, 0 to 1 */
    float lag_seconds; /* how far the captions are behind the sound; negative: unknown */
};

#endif
