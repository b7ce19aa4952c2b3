/* Resamples mono from any rate to 16 kHz, by libsoxr (HQ) or speexdsp (quality 8). The output does not depend on how
 * the input is divided into calls.
 *
 * Output sample k belongs to input time k / 16000 s in both kinds, because their delay is removed from the stream; an
 * output only appears later than its input (docs/realtime.md). soxr takes its input in blocks of 1 ms.
 *
 * Threads: one at a time. The libraries' queues grow during the first seconds; then nothing allocates. */
#ifndef SUR_AUDIO_RESAMPLE_H
#define SUR_AUDIO_RESAMPLE_H

#include <stddef.h>

#include "surtitle.h"

struct sur_resampler;

/* rate: SUR_RATE_MIN to SUR_RATE_MAX; 16000 copies. On failure *resampler is NULL: SUR_ERR_MEMORY, SUR_ERR_ARGUMENT. */
int sur_resampler_create(struct sur_resampler **resampler, enum sur_resampler_kind kind, int rate);
void sur_resampler_destroy(struct sur_resampler **resampler);
/* Takes up to n_in samples at the source's rate, sets *n_used to how many (fewer than n_in only if it wrote max_out),
 * writes up to max_out samples at 16 kHz and returns how many. in NULL: the input has ended; call until it returns 0.
 * Then exactly round(n * 16000 / rate) samples have come out for n samples in, and at least one if n is not 0. */
size_t sur_resampler_process(struct sur_resampler *resampler, const float *in, size_t n_in, size_t *n_used, float *out,
                             size_t max_out);

#endif
