/* The policy for captions that fall behind (docs/contract.md). No I/O. Times are in 16 kHz samples.
 *
 * The policy begins once the backlog has been under 1 s: audio that was captured while the model was loading does not
 * count as lag. */
#ifndef LAG_H
#define LAG_H

#include <stdbool.h>
#include <stdint.h>

#include "surtitle.h"

enum { LAG_WARN_SAMPLES = SUR_RATE, LAG_KEPT_SAMPLES = SUR_RATE / 2, LAG_FIRST_STEPS = 20 };

struct lag {
    int64_t max_samples; /* 0: no drops and no warnings */
    bool begun, warned;
    int64_t longest; /* since the policy began */
};

struct lag_advice {
    int64_t drop; /* number of oldest samples to drop */
    bool warn;    /* warn that captions are behind */
};

struct lag_advice lag_look(struct lag *lag, int64_t backlog);

/* Measures the first 20 steps, from the end of the first one. */
struct lag_speed {
    int64_t first_step, first_ns, first_behind;
    bool started, done;
};

/* behind: samples captured and not decoded yet. If the machine does not keep up, returns once how many ms a step of
 * 80 ms takes; otherwise 0. */
double lag_too_slow(struct lag_speed *speed, int64_t steps, int64_t behind, int64_t now_ns);

#endif
