#include "util/clock.h"

#include <time.h>

static int64_t read_clock(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t sur_clock_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

int64_t sur_clock_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

/* The two clocks cannot be read at the same instant, so several attempts are made, and the shortest one counts. */
int64_t sur_clock_asleep_ns(void)
{
    int64_t asleep = 0, shortest = INT64_MAX;
    for (int i = 0; i < 10 && shortest > 1000000; i++) {
        int64_t before = sur_clock_ns(), boot = read_clock(CLOCK_BOOTTIME), took = sur_clock_ns() - before;
        if (took >= shortest) continue;
        shortest = took;
        asleep = boot - before;
    }
    return asleep;
}

void sur_clock_sleep_until(int64_t t_ns)
{
    struct timespec t = {.tv_sec = t_ns / 1000000000, .tv_nsec = t_ns % 1000000000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}
