/* What the line of state shows. */
#ifndef OVERLAY_STATE_H
#define OVERLAY_STATE_H

enum { OVERLAY_TROUBLE = 256 }; /* bytes of a line that says what is wrong */

struct overlay_state {
    char name[128];    /* of the source or device: clean text */
    float level;       /* loudness of what was heard last, 0 to 1 */
    float lag_seconds; /* behind what was said; negative: not known */
};

#endif
