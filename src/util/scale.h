/* Conversion of counts between rates. Pure. */
#ifndef SUR_UTIL_SCALE_H
#define SUR_UTIL_SCALE_H

#include <stdint.h>

/* Returns n * to / from, rounded down, for n, to >= 0 and from > 0. The product may exceed 64 bits; the result must
 * fit. To convert a growing count piece by piece, convert the totals and subtract: the rounding errors of converted
 * pieces would add up. */
static inline int64_t sur_scale(int64_t n, int64_t to, int64_t from)
{
    return (int64_t)((__int128)n * to / from);
}

#endif
