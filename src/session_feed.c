#include "session_feed.h"

#include <math.h>
#include <string.h>

#include "util/error.h"
#include "util/scale.h"

int sur_feed_init(struct sur_feed *f, const struct sur_session_options *o, int64_t flush_samples,
                  struct sur_timeline *timeline)
{
    const size_t buffer_ms = o->buffer_ms ? (size_t)o->buffer_ms : 10000;
    f->rate = o->rate;
    f->channels = o->channels;
    f->format = o->format;
    f->flush_samples = flush_samples;
    f->timeline = timeline;
    int r = sur_ring_create(&f->ring, buffer_ms * (size_t)o->rate / 1000 + 1);
    return r ? sur_fail(r, "not enough memory for %zu ms of samples", buffer_ms) : SUR_OK;
}

void sur_feed_finish(struct sur_feed *f)
{
    sur_ring_destroy(&f->ring);
}

static float sample(const struct sur_feed *f, const char *at)
{
    if (f->format == SUR_S16LE) {
        int16_t i;
        memcpy(&i, at, sizeof i);
        return (float)i / 32768.0f;
    }
    float value;
    memcpy(&value, at, sizeof value);
    return isfinite(value) ? value : 0;
}

/* Returns the position of the next sample at 16 kHz; ahead: frames before it that are not in the ring yet. */
static int64_t feed_position(const struct sur_feed *f, int64_t ahead)
{
    return sur_scale((int64_t)sur_ring_written(f->ring) + ahead, SUR_RATE, f->rate);
}

/* Appends as much of a flush's silence as there is room for; true once all of it is in the ring. */
static bool put_silence(struct sur_feed *f)
{
    size_t space;
    float *to;
    while (f->silence_left > 0 && (space = sur_ring_reserve(f->ring, &to)) > 0) {
        size_t n = (int64_t)space < f->silence_left ? space : (size_t)f->silence_left;
        memset(to, 0, n * sizeof *to);
        sur_ring_commit(f->ring, n);
        f->silence_left -= (int64_t)n;
    }
    return f->silence_left == 0;
}

/* Before the first sample after a flush: ensures that the silence is in the ring and that a skip covers it. */
static bool end_flush(struct sur_feed *f)
{
    float *to;
    if (!put_silence(f) || sur_ring_reserve(f->ring, &to) == 0) return false;
    /* the timeline has kept room for this one */
    if (!f->flush_accounted) sur_timeline_lose(f->timeline, feed_position(f, 0), 0, SUR_SKIP_GAP);
    f->flushed = false;
    return true;
}

size_t sur_feed_put(struct sur_feed *f, const void *frames, size_t n_frames)
{
    if (atomic_load_explicit(&f->ended, memory_order_relaxed)) return 0;
    if (n_frames > 0 && f->flushed && !end_flush(f)) return 0;
    const char *at = frames;
    size_t sample_bytes = f->format == SUR_S16LE ? 2 : 4, taken = 0, space;
    float *to;
    while (taken < n_frames && (space = sur_ring_reserve(f->ring, &to)) > 0) {
        size_t n = n_frames - taken < space ? n_frames - taken : space;
        for (size_t i = 0; i < n; i++) {
            float sum = 0;
            for (int c = 0; c < f->channels; c++, at += sample_bytes) sum += sample(f, at);
            to[i] = f->channels == 1 ? sum : sum / (float)f->channels;
        }
        sur_ring_commit(f->ring, n);
        taken += n;
    }
    return taken;
}

int sur_feed_skip(struct sur_feed *f, int64_t n_samples, enum sur_skip_reason why)
{
    if (n_samples < 0 || n_samples > SUR_MAX_SKIP - f->skip_asked)
        return sur_fail(SUR_ERR_ARGUMENT, "a skip of %lld samples", (long long)n_samples);
    if ((unsigned)why > SUR_SKIP_DEVICE) return sur_fail(SUR_ERR_ARGUMENT, "there is no skip reason %d", (int)why);
    if (!sur_timeline_lose(f->timeline, feed_position(f, f->silence_left), n_samples, (int)why)) return SUR_AGAIN;
    f->skip_asked += n_samples;
    f->flush_accounted = true;
    return SUR_OK;
}

int sur_feed_flush(struct sur_feed *f)
{
    if (atomic_load_explicit(&f->ended, memory_order_relaxed) || sur_ring_written(f->ring) == 0) return SUR_OK;
    if (!f->flushed) {
        int64_t frames = sur_scale(f->flush_samples, f->rate, SUR_RATE) + 1, from = feed_position(f, 0);
        int64_t at = feed_position(f, frames);
        if (!sur_timeline_fill(f->timeline, at, at - from)) return SUR_AGAIN;
        atomic_fetch_add_explicit(&f->n_silence, at - from, memory_order_relaxed);
        f->silence_left = frames;
        f->flushed = true;
        f->flush_accounted = false;
    }
    return put_silence(f) ? SUR_OK : SUR_AGAIN;
}

void sur_feed_end(struct sur_feed *f)
{
    atomic_store_explicit(&f->ended, true, memory_order_release);
}
