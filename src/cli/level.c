#include "cli/level.h"

#include <math.h>

float level_rms(const float *samples, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)samples[i] * (double)samples[i];
    return n ? (float)sqrt(sum / (double)n) : 0;
}
