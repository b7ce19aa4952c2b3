/* Any rate to 16 kHz, mono. The same samples come out however the input is cut.
 *
 * Output sample k stands at input time k / 16000 s in both kinds: their delays are taken out of the stream, so that
 * what they cost is only how much later than its input an output appears (docs/realtime.md).
 * soxr gets its input by the millisecond, so that much of it may wait. Encode thread only. The libraries' queues grow
 * to their size within the first seconds, then nothing allocates.
 * Source: libsoxr (HQ) and speexdsp (quality 8). */
#ifndef SUR_AUDIO_RESAMPLE_H
#define SUR_AUDIO_RESAMPLE_H

#include <stddef.h>

#include "surtitle.h"

struct sur_resampler;

/* rate: SUR_RATE_MIN to SUR_RATE_MAX; 16000 copies. On failure *resampler is NULL: SUR_ERR_MEMORY, SUR_ERR_ARGUMENT. */
int sur_resampler_create(struct sur_resampler **resampler, enum sur_resampler_kind kind, int rate);
void sur_resampler_destroy(struct sur_resampler **resampler);
/* Takes up to n_in samples at the source's rate and writes up to max_out at 16 kHz; *n_used says how many it took
 * (fewer than n_in only when it wrote max_out). in NULL: no more input will come; call until it returns 0. Returns how
 * many it wrote. After the flush exactly round(n * 16000 / rate) samples have come out for n in, but at least one for
 * one. */
size_t sur_resampler_process(struct sur_resampler *resampler, const float *in, size_t n_in, size_t *n_used, float *out,
                             size_t max_out);

#endif
