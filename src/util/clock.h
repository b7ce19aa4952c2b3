/* The clocks. */
#ifndef SUR_UTIL_CLOCK_H
#define SUR_UTIL_CLOCK_H

#include <stdint.h>

int64_t sur_clock_ns(void); /* monotonic; stands still while the machine is suspended */
/* For how long the machine has been suspended: CLOCK_BOOTTIME's lead over the monotonic clock, to 1 ms. Differences
 * count. */
int64_t sur_clock_asleep_ns(void);
int64_t sur_clock_wall_ns(void); /* since 1970, UTC */
/* Sleeps until the clock reads t_ns; returns early on a signal. */
void sur_clock_sleep_until(int64_t t_ns);

#endif
