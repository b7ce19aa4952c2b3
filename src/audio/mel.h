/* 16 kHz samples to log-mel frames, one by one (docs/model.md, "Audio to mel").
 *
 * Periodic Hann of 400, DFT of 400 points, hop 160; frame k is centred on sample 160 k, so it needs samples up to
 * 160 k + 199; before the first sample there are zeros. Power, Slaney mel filters (0 to 8000 Hz, Slaney norm), log10,
 * floor, scaling. Computed in fp64 from fp32 samples, rounded to fp32 once; the bits do not depend on how samples
 * arrive. The caller feeds the pads.
 *
 * Threads: one at a time. RT safe after create.
 *
 * The transform is our own, exactly 400 points in fp64: kissfft as distributions build it is single precision, whose
 * rounding (2^-24 of the loudest bin) is as large as a quiet bin beside a loud one and moves its log-mel by up to 6e-4.
 */
#ifndef SUR_AUDIO_MEL_H
#define SUR_AUDIO_MEL_H

#include <stddef.h>

struct sur_mel;

/* n_mels filters, 1 to 1024; log_max is global_log_mel_max. On failure *mel is NULL: SUR_ERR_ARGUMENT, SUR_ERR_MEMORY.
 */
int sur_mel_create(struct sur_mel **mel, int n_mels, double log_max);
void sur_mel_destroy(struct sur_mel **mel);
/* Takes up to n samples, sets *n_used to how many, and writes up to max_frames frames, out [max_frames, n_mels]. It
 * stops when the output is full. Returns the number of frames written. */
size_t sur_mel_process(struct sur_mel *mel, const float *samples, size_t n, size_t *n_used, float *out,
                       size_t max_frames);
/* Copies its tables, rounded to fp32: filters [n_mels, 201], window [400]. */
void sur_mel_tables(const struct sur_mel *mel, float *filters, float *window);

#endif
