/* Counts at one rate as counts at another. */
#ifndef SUR_UTIL_SCALE_H
#define SUR_UTIL_SCALE_H

#include <stdint.h>

/* n * to / from, rounded down; n, to and from are not negative. Nothing overflows as long as the result fits. To add up
 * converted counts without an error that grows, convert the sum and take differences. */
static inline int64_t sur_scale(int64_t n, int64_t to, int64_t from)
{
    return (int64_t)((__int128)n * to / from);
}

#endif
