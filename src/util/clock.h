/* The monotonic clock. */
#ifndef SUR_UTIL_CLOCK_H
#define SUR_UTIL_CLOCK_H

#include <stdint.h>

int64_t sur_clock_ns(void);
/* Sleeps until the clock reads t_ns; returns early on a signal. */
void sur_clock_sleep_until(int64_t t_ns);

#endif
