/* Loudness. */
#ifndef LEVEL_H
#define LEVEL_H

#include <stddef.h>

/* Root mean square of n samples, 0 to 1; 0 for none. */
float level_rms(const float *samples, size_t n);

#endif
