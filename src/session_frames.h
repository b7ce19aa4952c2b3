/* From the ring of samples to mel frames: left pad, resampled samples, right pad. Encode thread only, but for
 * n_samples. */
#ifndef SUR_SESSION_FRAMES_H
#define SUR_SESSION_FRAMES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "audio/mel.h"
#include "audio/resample.h"
#include "model/params.h"
#include "session_feed.h"

struct sur_frames {
    struct sur_feed *feed;
    struct sur_resampler *resampler;
    struct sur_mel *mel;
    size_t n_mels;
    float *frames; /* [max_frames, n_mels], of which the first n are made */
    size_t n, max_frames;
    int64_t left_pad;               /* zeros still to come */
    float chunk[SUR_TOKEN_SAMPLES]; /* resampled; those from chunk_at to chunk_end are still to be used */
    size_t chunk_at, chunk_end;
    bool drained;              /* all samples have been drawn from the ring */
    _Atomic int64_t n_samples; /* drawn so far, at 16 kHz; encode writes, any thread reads */
};

/* frames: zeroed; finish takes it in any case. left_pad: samples of silence before the first. */
int sur_frames_init(struct sur_frames *frames, struct sur_feed *feed, const struct sur_session_options *options,
                    const struct sur_params *params, size_t max_frames, int64_t left_pad);
void sur_frames_finish(struct sur_frames *frames);
/* Makes frames until there are `want`. False: samples are missing; nothing is lost, call again. */
bool sur_frames_fill(struct sur_frames *frames, size_t want);

#endif
