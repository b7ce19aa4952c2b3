#include "cli/lag.h"

struct lag_advice lag_look(struct lag *lag, int64_t backlog)
{
    struct lag_advice advice = {0};
    if (backlog < LAG_WARN_SAMPLES) lag->begun = true;
    if (!lag->begun) return advice;
    if (backlog > lag->longest) lag->longest = backlog;
    if (lag->max_samples == 0) return advice;
    if (backlog <= LAG_KEPT_SAMPLES) lag->warned = false;
    if (backlog >= LAG_WARN_SAMPLES && !lag->warned) advice.warn = lag->warned = true;
    if (backlog > lag->max_samples) advice.drop = backlog - LAG_KEPT_SAMPLES;
    return advice;
}

double lag_too_slow(struct lag_speed *s, int64_t steps, int64_t behind, int64_t now_ns)
{
    if (s->done || steps == 0) return 0;
    if (!s->started) {
        s->started = true;
        s->first_step = steps;
        s->first_ns = now_ns;
        s->first_behind = behind;
        return 0;
    }
    int64_t n = steps - s->first_step;
    if (n < LAG_FIRST_STEPS) return 0;
    s->done = true;
    double ms = (double)(now_ns - s->first_ns) * 1e-6 / (double)n, late = (ms - 80) * (double)n;
    /* Steps are also rare if the source pauses, but then no backlog grows. */
    double piled = (double)(behind - s->first_behind) * 1000 / SUR_RATE;
    return late > 80 && piled > late / 2 ? ms : 0;
}
