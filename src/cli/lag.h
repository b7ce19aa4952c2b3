/* What to do about falling behind (docs/contract.md). Pure. Times are 16 kHz samples.
 *
 * What was captured before the first words could be computed is no lag: the policy begins once the backlog has been
 * under 1 s. */
#ifndef LAG_H
#define LAG_H

#include <stdbool.h>
#include <stdint.h>

#include "surtitle.h"

enum { LAG_WARN_SAMPLES = SUR_RATE, LAG_KEPT_SAMPLES = SUR_RATE / 2, LAG_FIRST_STEPS = 20 };

struct lag {
    int64_t max_samples; /* 0: nothing is ever dropped, nor said */
    bool begun, warned;
    int64_t longest; /* since it began */
};

struct lag_advice {
    int64_t drop; /* this many of the oldest; 0: none */
    bool warn;    /* say that captions are behind */
};

struct lag_advice lag_look(struct lag *lag, int64_t backlog);

/* Whether the machine keeps up, by its first 20 steps: they are watched from the end of the first one. */
struct lag_speed {
    int64_t first_step, first_ns, first_behind;
    bool started, done;
};

/* behind: captured and not decoded yet. Returns how many ms a step of 80 ms takes if it cannot keep up, once; else 0.
 */
double lag_too_slow(struct lag_speed *speed, int64_t steps, int64_t behind, int64_t now_ns);

#endif
