#include "session_frames.h"

#include <stdlib.h>

#include "util/error.h"

int sur_frames_init(struct sur_frames *f, struct sur_feed *feed, const struct sur_session_options *o,
                    const struct sur_params *p, size_t max_frames, int64_t left_pad)
{
    f->feed = feed;
    f->n_mels = (size_t)p->n_mels;
    f->max_frames = max_frames;
    f->left_pad = left_pad;
    int r = sur_resampler_create(&f->resampler, o->resampler, o->rate);
    if (!r) r = sur_mel_create(&f->mel, p->n_mels, p->log_mel_max);
    if (r) return r;
    f->frames = calloc(max_frames * f->n_mels, sizeof *f->frames);
    return f->frames ? SUR_OK : sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
}

void sur_frames_finish(struct sur_frames *f)
{
    sur_resampler_destroy(&f->resampler);
    sur_mel_destroy(&f->mel);
    free(f->frames);
}

/* Refills the chunk from the ring; false when no samples are there now. Sets drained when none will ever come. */
static bool draw(struct sur_frames *f)
{
    f->chunk_at = f->chunk_end = 0;
    while (!f->drained && f->chunk_end == 0) {
        bool ended = atomic_load_explicit(&f->feed->ended, memory_order_acquire);
        const float *in;
        size_t n = sur_ring_peek(f->feed->ring, &in), used = 0;
        if (n == 0 && !ended) return false;
        f->chunk_end = sur_resampler_process(f->resampler, n ? in : NULL, n, &used, f->chunk, SUR_TOKEN_SAMPLES);
        sur_ring_drop(f->feed->ring, used);
        if (n == 0 && f->chunk_end == 0) f->drained = true;
    }
    if (f->chunk_end) atomic_fetch_add_explicit(&f->n_samples, (int64_t)f->chunk_end, memory_order_relaxed);
    return f->chunk_end > 0;
}

bool sur_frames_fill(struct sur_frames *f, size_t want)
{
    static const float zeros[SUR_TOKEN_SAMPLES];
    while (f->n < want) {
        const float *from = zeros;
        size_t n = SUR_TOKEN_SAMPLES, used;
        if (f->left_pad > 0)
            n = f->left_pad < SUR_TOKEN_SAMPLES ? (size_t)f->left_pad : SUR_TOKEN_SAMPLES;
        else if (f->chunk_at < f->chunk_end || draw(f)) {
            from = f->chunk + f->chunk_at;
            n = f->chunk_end - f->chunk_at;
        } else if (!f->drained)
            return false;
        f->n += sur_mel_process(f->mel, from, n, &used, f->frames + f->n * f->n_mels, want - f->n);
        if (f->left_pad > 0)
            f->left_pad -= (int64_t)used;
        else if (from != zeros)
            f->chunk_at += used;
    }
    return true;
}
