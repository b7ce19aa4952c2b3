#include "cli/encoder.h"

#include <stdio.h>
#include <unistd.h>

#include "cli/level.h"
#include "cli/message.h"
#include "cli/os_wake.h"
#include "input/os_priority.h"
#include "util/clock.h"
#include "util/failure.h"
#include "util/os_thread.h"
#include "util/scale.h"

enum { SECOND_NS = 1000000000, WAIT_NS = 500000000, LATE_NS = 100000000, PIECE_MS = 80 };
enum { FLUSH_MS = 1040 /* of silence beside the delay: sur_session_flush */ };

static int64_t to_16k(const struct encoder *e, int64_t frames)
{
    return sur_scale(frames, SUR_RATE, e->rate);
}

static void add_losses(struct encoder *e, const struct capture_piece *p)
{
    for (int why = 0; why < 3; why++) e->missing[why] += p->lost[why];
}

/* Marks in the session what is missing at this place of the stream; what was lost comes before what was dropped. The
 * sum is converted, so that rounding errors do not add up. A skip for which the session has no space is marked later,
 * further on in the stream. */
static void mark_skips(struct encoder *e)
{
    for (int why = SUR_SKIP_DEVICE; why >= SUR_SKIP_LAG; why--) {
        int64_t n = to_16k(e, e->missing[why]) - e->marked[why];
        if (n == 0 || sur_session_skip(e->session, n, (enum sur_skip_reason)why) != SUR_OK) continue;
        e->marked[why] += n;
        if (why != SUR_SKIP_LAG) continue;
        e->n_lag_skips++;
        message_notice(MESSAGE_ANY, "captions fell behind; skipped %.1f s", (double)n / SUR_RATE);
    }
}

static void drop_oldest(struct encoder *e, int64_t samples)
{
    int64_t left = sur_scale(samples, e->rate, SUR_RATE);
    struct capture_piece p;
    while (left > 0 && capture_peek(e->capture, &p)) {
        size_t n = (int64_t)p.n < left ? p.n : (size_t)left;
        add_losses(e, &p);
        capture_take(e->capture, n);
        e->missing[SUR_SKIP_LAG] += (int64_t)n;
        left -= (int64_t)n;
    }
    if (e->reader) reader_note_space(e->reader);
}

/* Samples fed that have not come out of the resampler; a flush empties it. */
static int64_t in_resampler(const struct encoder *e, const struct sur_session_stats *s)
{
    return e->flushed ? 0 : to_16k(e, e->fed_frames) + s->silence_samples - s->fed_samples;
}

static void apply_lag_policy(struct encoder *e, const struct sur_session_stats *s)
{
    if (capture_delivered(e->capture) == 0) return; /* the policy begins with the first sample */
    int64_t backlog = to_16k(e, capture_waiting(e->capture)) + in_resampler(e, s);
    struct lag_advice advice = lag_look(&e->lag, backlog);
    atomic_store_explicit(&e->backlog, backlog, memory_order_relaxed);
    if (advice.drop > 0)
        drop_oldest(e, advice.drop);
    else if (advice.warn)
        message_notice(MESSAGE_LAG, "captions are %.1f s behind", (double)backlog / SUR_RATE);
    if (e->lag.max_samples == 0) return;
    double ms = lag_too_slow(&e->speed, s->steps, backlog + s->waiting_tokens * SUR_TOKEN_SAMPLES, sur_clock_ns());
    if (ms > 0)
        message_notice(
            MESSAGE_ANY,
            "this machine takes %.0f ms per 80 ms of speech: captions will fall behind, and speech will be skipped",
            ms);
}

/* Feeds the oldest block, at most 80 ms of it. Returns false if there is nothing to feed now. */
static bool feed(struct encoder *e)
{
    struct capture_piece p;
    if (!capture_peek(e->capture, &p)) return false;
    add_losses(e, &p);
    mark_skips(e);
    size_t most = (size_t)e->rate * PIECE_MS / 1000 + 1;
    size_t n = sur_session_feed(e->session, p.samples, p.n < most ? p.n : most);
    atomic_store_explicit(&e->level, level_rms(p.samples, n), memory_order_relaxed);
    capture_take(e->capture, n);
    e->fed_frames += (int64_t)n;
    if (n > 0) {
        e->waited_ns = 0;
        e->flushed = false;
        atomic_store(&e->rests, false);
    }
    e->entry_ns = p.entry_ns;
    e->last_block_ns = (int64_t)n * SECOND_NS / e->rate;
    if ((int64_t)p.n > e->longest_block) e->longest_block = (int64_t)p.n;
    if (e->reader) reader_note_space(e->reader);
    return n > 0;
}

static bool is_paced_file(const struct encoder *e)
{
    return e->reader && e->reader->pace > 0 && !e->reader->slow_writer;
}

/* A microphone's callback makes no system call, so it does not wake this thread. The next block is expected one block's
 * duration after the last one; from then on the thread polls every millisecond, and less often once the device has
 * delivered nothing for a while. */
static void wait_for_samples(struct encoder *e)
{
    int64_t timeout = e->flushed || is_paced_file(e) ? WAIT_NS : LATE_NS;
    if (!e->reader) {
        int64_t late = sur_clock_ns() - (e->entry_ns + e->last_block_ns);
        timeout = e->entry_ns == 0 || late > LATE_NS ? SECOND_NS / 100 : late < -1000000 ? -late : 1000000;
    }
    int64_t began = sur_clock_ns();
    os_wake_wait(e->wake, -1, timeout);
    int64_t waited = sur_clock_ns() - began;
    e->waited_ns += waited < LATE_NS ? waited : LATE_NS;
}

/* Whether the source has delivered nothing for so long that its last words are to be written; all that it delivered has
 * been encoded. Time in which the process was stopped hardly counts. A microphone is known to be lost by then, so that
 * the time until it is back is a skip, which has space for the silence. A paced file never stands still. */
static bool stands_still(const struct encoder *e)
{
    int64_t least = SECOND_NS, flush_ns = (int64_t)(e->delay_ms + FLUSH_MS) * 1000000;
    if (!e->reader) least = flush_ns > SECOND_NS * 3LL / 2 ? flush_ns : SECOND_NS * 3LL / 2;
    return e->fed_frames > 0 && !is_paced_file(e) && e->waited_ns >= least;
}

/* Feeds the silence that the session's delay needs, once; when that has been encoded, wakes the main thread. */
static void flush_or_wait(struct encoder *e)
{
    if (!e->flushed && stands_still(e)) {
        if (sur_session_flush(e->session) == SUR_OK) e->flushed = true; /* else there was no room yet */
        if (e->flushed) return;
    }
    if (e->flushed && !atomic_exchange(&e->rests, true)) os_wake_post(e->decode_wake);
    wait_for_samples(e);
}

/* The session wants more samples, so the rest of those fed is in the resampler. */
static void measure_resampler(struct encoder *e)
{
    struct sur_session_stats s;
    sur_session_get_stats(e->session, &s);
    int64_t n = in_resampler(e, &s);
    if (n > e->most_in_resampler && !e->finished) e->most_in_resampler = n;
}

/* One pass, or one feed, or one wait. */
static int encode_once(struct encoder *e)
{
    struct sur_session_stats s;
    sur_session_get_stats(e->session, &s);
    apply_lag_policy(e, &s);
    if (s.waiting_tokens >= ENCODER_AHEAD) {
        if (os_wake_raise(&e->waits_for_decoder)) os_wake_wait(e->wake, -1, WAIT_NS / 10);
        return SUR_OK;
    }
    /* stored before the pass, which publishes the token */
    int64_t entry = e->finished || e->flushed ? 0 : e->lag.begun ? e->entry_ns : -1;
    atomic_store_explicit(&e->entries[s.tokens_encoded % ENCODER_ENTRIES], entry, memory_order_relaxed);
    int status = sur_session_encode(e->session, 1);
    if (status == SUR_OK) os_wake_post(e->decode_wake);
    if (status != SUR_AGAIN) return status;
    measure_resampler(e);
    if (feed(e)) return SUR_OK;
    if (!capture_ended(e->capture)) {
        flush_or_wait(e);
    } else if (!e->finished) {
        mark_skips(e);
        sur_session_finish(e->session);
        e->finished = true;
    }
    return SUR_OK;
}

static void *run(void *arg)
{
    struct encoder *e = arg;
    int status = SUR_OK;
    if (e->realtime && !os_priority_realtime(false)) message_debug("no real-time priority for the encode thread");
    while (status == SUR_OK && !atomic_load(&e->stop)) status = encode_once(e);
    if (status != SUR_OK && status != SUR_END) {
        snprintf(e->error, sizeof e->error, "%s", sur_error_text());
        atomic_store(&e->status, status);
    }
    os_wake_post(e->decode_wake);
    return NULL;
}

int encoder_start(struct encoder *e)
{
    e->wake = os_wake_open();
    if (e->wake < 0) return failure(SUR_ERR_IO, "cannot create an event descriptor");
    e->lag.max_samples = (int64_t)(e->max_lag * SUR_RATE);
    e->running = sur_thread_start(&e->thread, run, e) == 0;
    return e->running ? SUR_OK : failure(SUR_ERR_MEMORY, "cannot start a thread");
}

void encoder_note_step(struct encoder *e)
{
    if (os_wake_lower(&e->waits_for_decoder)) os_wake_post(e->wake);
}

int64_t encoder_entry_ns(const struct encoder *e, int64_t token)
{
    return atomic_load_explicit(&e->entries[token % ENCODER_ENTRIES], memory_order_relaxed);
}

void encoder_stop(struct encoder *e)
{
    if (!e->running) return;
    atomic_store(&e->stop, true);
    os_wake_post(e->wake);
}

void encoder_join(struct encoder *e)
{
    if (e->running) pthread_join(e->thread, NULL);
    if (e->wake > 0) close(e->wake);
    e->running = false;
    e->wake = 0;
}
