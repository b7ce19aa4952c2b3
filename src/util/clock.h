/* Clocks, in ns.
 *
 * Thread-safety: any thread; the readers are async-signal-safe. */
#ifndef SUR_UTIL_CLOCK_H
#define SUR_UTIL_CLOCK_H

#include <stdint.h>

/* Monotonic time since an unspecified start. Does not advance while the machine is suspended. */
int64_t sur_clock_ns(void);
/* How long the machine has been suspended in total, to 1 ms: the lead of CLOCK_BOOTTIME over the monotonic clock. Meant
 * for differences. */
int64_t sur_clock_asleep_ns(void);
/* UTC, since 1970. */
int64_t sur_clock_wall_ns(void);
/* Sleeps until sur_clock_ns() reaches t_ns; returns early if a signal handler runs. */
void sur_clock_sleep_until(int64_t t_ns);

#endif
