#include "cli/live.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/level.h"
#include "cli/message.h"
#include "cli/os_signal.h"
#include "cli/os_wake.h"
#include "input/os_priority.h"
#include "util/clock.h"
#include "util/failure.h"
#include "util/os_thread.h"
#include "util/scale.h"

enum { PACE_MS = 20, SECOND_NS = 1000000000, WAIT_NS = 500000000, LATE_NS = 100000000, PIECE_MS = 80 };
enum { FLUSH_MS = 1040 /* of silence, and the delay: surtitle.h */ };

/* ---- the reader: a file at the speed of speech, a pipe ---- */

/* For a thread that is about to wait: raises the flag, then looks once more for what it waits for, and waits if the
 * flag was up before. The other thread makes that, then lowers the flag (lower_flag), and wakes if it was up. Between
 * its write and its look each of the two has a full fence, so one of them sees what the other did. */
static bool raise_flag(atomic_bool *flag)
{
    bool up = atomic_exchange(flag, true);
    atomic_thread_fence(memory_order_seq_cst);
    return up;
}

static bool lower_flag(atomic_bool *flag)
{
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load(flag) && atomic_exchange(flag, false);
}

static bool stop_reading(struct live *l)
{
    return atomic_load(&l->stop_reading);
}

/* Waits for room: what is read is never dropped here, a pipe's writer waits with us. */
static bool put(struct live *l, const float *frames, size_t n, int64_t entry)
{
    size_t most = (size_t)l->rate / 10 + 1, channels = (size_t)l->source->channels;
    while (n > 0) {
        size_t m = n < most ? n : most;
        while (!capture_put(l->capture, l->mix, frames, m, entry)) {
            if (stop_reading(l)) return false;
            if (raise_flag(&l->reader_waits)) os_wake_wait(l->space_wake, -1, WAIT_NS);
        }
        frames += m * channels;
        n -= m;
    }
    os_wake_post(l->encode_wake);
    return true;
}

/* Sleeps until the frames that were read have been spoken. Returns when that was, even if this thread woke a little
 * late. Much too late means that the process was stopped (Ctrl-Z): a file loses nothing, its speaker was stopped, too.
 * Only a source whose writer may be slow is caught up with. */
static int64_t keep_pace(struct live *l, size_t n)
{
    l->frames_read += (int64_t)n;
    int64_t due = l->start_ns + (int64_t)((double)l->frames_read * SECOND_NS / (l->rate * l->pace));
    bool early = sur_clock_ns() < due;
    while (!stop_reading(l) && sur_clock_ns() < due) sur_clock_sleep_until(due);
    int64_t late = sur_clock_ns() - due;
    if (late < WAIT_NS || (l->waits && !early)) return due;
    l->start_ns += late;
    return due + late;
}

/* From now on SIGALRM, sent by pthread_kill, interrupts blocking system calls of this thread. */
static void allow_interrupt(void)
{
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
}

static void *read_thread(void *arg)
{
    struct live *l = arg;
    size_t n = l->n_frames, at = 0, most = l->max_frames;
    allow_interrupt();
    if (l->pace > 0) {
        most = (size_t)l->rate * PACE_MS / 1000;
        if (most < 1) most = 1;
        if (most > l->max_frames) most = l->max_frames;
    }
    while (!stop_reading(l)) {
        size_t m = n < most ? n : most;
        int64_t entry = l->pace > 0 ? keep_pace(l, m) : sur_clock_ns();
        if (!put(l, l->frames + at * (size_t)l->source->channels, m, entry)) break;
        at += m;
        n -= m;
        if (n > 0 || stop_reading(l)) continue;
        ptrdiff_t r;
        do {
            r = l->source->read(l->source, l->frames, most);
        } while (r == SOURCE_INTERRUPTED && !stop_reading(l));
        if (r < 0 && !stop_reading(l)) {
            l->read_status = (int)r;
            snprintf(l->read_error, sizeof l->read_error, "%s", failure_text());
        }
        if (r <= 0) break;
        n = (size_t)r;
        at = 0;
    }
    if (!stop_reading(l)) downmix_end(l->mix); /* an input that a signal cut short may be silent so far */
    capture_end(l->capture);
    atomic_store(&l->reader_done, true);
    os_wake_post(l->encode_wake);
    return NULL;
}

/* ---- encode ---- */

static int64_t to_16k(const struct live *l, int64_t frames)
{
    return sur_scale(frames, SUR_RATE, l->rate);
}

static void note_lost(struct live *l, const struct capture_piece *p)
{
    for (int why = 0; why < 3; why++) l->missing[why] += p->lost[why];
}

/* Tells what is missing where the stream stands: what was lost before it was dropped first. The sum is converted, so
 * that no rounding adds up. What the session has no room for now is told later, further on in the stream. */
static void tell_skips(struct live *l)
{
    for (int why = SUR_SKIP_DEVICE; why >= SUR_SKIP_LAG; why--) {
        int64_t n = to_16k(l, l->missing[why]) - l->told[why];
        if (n == 0 || sur_session_skip(l->session, n, (enum sur_skip_reason)why) != SUR_OK) continue;
        l->told[why] += n;
        if (why != SUR_SKIP_LAG) continue;
        l->n_lag_skips++;
        message_notice(MESSAGE_ANY, "captions fell behind; skipped %.1f s", (double)n / SUR_RATE);
    }
}

static void made_room(struct live *l)
{
    if (lower_flag(&l->reader_waits)) os_wake_post(l->space_wake);
}

/* Drops the oldest. */
static void drop(struct live *l, int64_t samples)
{
    int64_t left = sur_scale(samples, l->rate, SUR_RATE);
    struct capture_piece p;
    while (left > 0 && capture_peek(l->capture, &p)) {
        size_t n = (int64_t)p.n < left ? p.n : (size_t)left;
        note_lost(l, &p);
        capture_take(l->capture, n);
        l->missing[SUR_SKIP_LAG] += (int64_t)n;
        left -= (int64_t)n;
    }
    made_room(l);
}

/* Fed and not drawn: what the resampler holds. After a flush all of it has been drawn. */
static int64_t held_samples(const struct live *l, const struct sur_session_stats *s)
{
    return l->flushed ? 0 : to_16k(l, l->fed_frames) + s->silence_samples - s->fed_samples;
}

static void keep_up(struct live *l, const struct sur_session_stats *s)
{
    if (capture_put_in_all(l->capture) == 0) return; /* before the first sample nothing has been kept up with */
    int64_t backlog = to_16k(l, capture_waiting(l->capture)) + held_samples(l, s);
    struct lag_advice advice = lag_look(&l->lag, backlog);
    atomic_store_explicit(&l->backlog, backlog, memory_order_relaxed);
    if (advice.drop > 0)
        drop(l, advice.drop);
    else if (advice.warn)
        message_notice(MESSAGE_LAG, "captions are %.1f s behind", (double)backlog / SUR_RATE);
    if (l->lag.max_samples == 0) return;
    double ms = lag_too_slow(&l->speed, s->steps, backlog + s->waiting_tokens * SUR_TOKEN_SAMPLES, sur_clock_ns());
    if (ms > 0)
        message_notice(
            MESSAGE_ANY,
            "this machine takes %.0f ms per 80 ms of speech: captions will fall behind, and speech will be skipped",
            ms);
}

/* Feeds the oldest block, or 80 ms of it. False: there is nothing to feed now. */
static bool feed(struct live *l)
{
    struct capture_piece p;
    if (!capture_peek(l->capture, &p)) return false;
    note_lost(l, &p);
    tell_skips(l);
    size_t most = (size_t)l->rate * PIECE_MS / 1000 + 1;
    size_t n = sur_session_feed(l->session, p.samples, p.n < most ? p.n : most);
    atomic_store_explicit(&l->level, level_rms(p.samples, n), memory_order_relaxed);
    capture_take(l->capture, n);
    l->fed_frames += (int64_t)n;
    if (n > 0) {
        l->waited_ns = 0;
        l->flushed = false;
        atomic_store(&l->rests, false);
    }
    l->entry_ns = p.entry_ns;
    l->last_block_ns = (int64_t)n * SECOND_NS / l->rate;
    if ((int64_t)p.n > l->longest_block) l->longest_block = (int64_t)p.n;
    made_room(l);
    return n > 0;
}

/* Only a pipe's writer may be slow; a file is always there. */
static bool is_paced_file(const struct live *l)
{
    return l->pace > 0 && !l->waits;
}

/* A capture callback makes no system call, so it wakes nobody: the next block is expected when the last one has been
 * spoken once more, and after that looked for every millisecond, seldom if the device has gone silent. */
static void wait_for_samples(struct live *l)
{
    int64_t timeout = l->flushed || is_paced_file(l) ? WAIT_NS : LATE_NS;
    if (!l->source) {
        int64_t late = sur_clock_ns() - (l->entry_ns + l->last_block_ns);
        timeout = l->entry_ns == 0 || late > LATE_NS ? SECOND_NS / 100 : late < -1000000 ? -late : 1000000;
    }
    int64_t began = sur_clock_ns();
    os_wake_wait(l->encode_wake, -1, timeout);
    int64_t waited = sur_clock_ns() - began;
    l->waited_ns += waited < LATE_NS ? waited : LATE_NS;
}

/* The source stands still, and all that it gave has been encoded. Time in which the process was stopped hardly counts.
 * A device is known to be lost by then, so that the time until it is back is a skip, which has room for the silence. A
 * file that is paced never stands still. */
static bool stands_still(const struct live *l)
{
    int64_t least = SECOND_NS, flush_ns = (int64_t)(l->delay_ms + FLUSH_MS) * 1000000;
    if (!l->source) least = flush_ns > SECOND_NS * 3LL / 2 ? flush_ns : SECOND_NS * 3LL / 2;
    return l->fed_frames > 0 && !is_paced_file(l) && l->waited_ns >= least;
}

/* The session gets the silence that its delay needs, once; when that has been encoded the main thread is told. */
static void flush_or_wait(struct live *l)
{
    if (!l->flushed && stands_still(l)) {
        if (sur_session_flush(l->session) == SUR_OK) l->flushed = true; /* else there was no room yet */
        if (l->flushed) return;
    }
    if (l->flushed && !atomic_exchange(&l->rests, true)) os_wake_post(l->decode_wake);
    wait_for_samples(l);
}

/* All that was fed has been drawn: what has not come out of the resampler is held by it. */
static void note_held(struct live *l)
{
    struct sur_session_stats s;
    sur_session_get_stats(l->session, &s);
    int64_t held = held_samples(l, &s);
    if (held > l->longest_held && !l->finished) l->longest_held = held;
}

/* One pass, or one piece fed, or one wait. */
static int encode_once(struct live *l)
{
    struct sur_session_stats s;
    sur_session_get_stats(l->session, &s);
    keep_up(l, &s);
    if (s.waiting_tokens >= LIVE_AHEAD) {
        if (raise_flag(&l->encoder_waits)) os_wake_wait(l->encode_wake, -1, WAIT_NS / 10);
        return SUR_OK;
    }
    /* before the pass, which publishes the token */
    int64_t entry = l->finished || l->flushed ? 0 : l->lag.begun ? l->entry_ns : -1;
    atomic_store_explicit(&l->arrivals[s.tokens_encoded % LIVE_ARRIVALS], entry, memory_order_relaxed);
    int status = sur_session_encode(l->session, 1);
    if (status == SUR_OK) os_wake_post(l->decode_wake);
    if (status != SUR_AGAIN) return status;
    note_held(l);
    if (feed(l)) return SUR_OK;
    if (!capture_ended(l->capture)) {
        flush_or_wait(l);
    } else if (!l->finished) {
        tell_skips(l);
        sur_session_finish(l->session);
        l->finished = true;
    }
    return SUR_OK;
}

static void *encode_thread(void *arg)
{
    struct live *l = arg;
    int status = SUR_OK;
    if (l->realtime && !os_priority_realtime(false)) message_debug("no real-time priority for the encode thread");
    while (status == SUR_OK && !atomic_load(&l->abandon)) status = encode_once(l);
    if (status != SUR_OK && status != SUR_END) {
        snprintf(l->encode_error, sizeof l->encode_error, "%s", sur_error_text());
        atomic_store(&l->encode_status, status);
    }
    os_wake_post(l->decode_wake);
    return NULL;
}

/* ---- the caller's side ---- */

int live_start(struct live *l)
{
    l->encode_wake = os_wake_open();
    l->decode_wake = os_wake_open();
    l->space_wake = os_wake_open();
    if (l->encode_wake < 0 || l->decode_wake < 0 || l->space_wake < 0)
        return failure(SUR_ERR_IO, "cannot create an event descriptor");
    l->lag.max_samples = (int64_t)(l->max_lag * SUR_RATE);
    l->start_ns = sur_clock_ns();
    l->encoding = sur_thread_start(&l->encoder, encode_thread, l) == 0;
    l->reading = l->encoding && l->source && sur_thread_start(&l->reader, read_thread, l) == 0;
    if (!l->encoding || (l->source && !l->reading)) return failure(SUR_ERR_MEMORY, "cannot start a thread");
    return SUR_OK;
}

int live_decode(struct live *l)
{
    int status = atomic_load(&l->encode_status);
    if (status == SUR_OK) status = sur_session_decode(l->session, 1);
    if (status == SUR_OK && lower_flag(&l->encoder_waits)) os_wake_post(l->encode_wake);
    return status;
}

const char *live_error(const struct live *l)
{
    return atomic_load(&l->encode_status) != SUR_OK ? l->encode_error : sur_error_text();
}

void live_note_written(struct live *l)
{
    struct sur_session_stats s;
    sur_session_get_stats(l->session, &s);
    int64_t base = s.tokens_encoded - s.waiting_tokens - s.steps, now = sur_clock_ns();
    for (; l->n_written < s.steps; l->n_written++) {
        int64_t entry = atomic_load_explicit(&l->arrivals[(base + l->n_written) % LIVE_ARRIVALS], memory_order_relaxed);
        if (entry > 0) latency_add(&l->latency, entry, now);
        if (entry < 0) l->latency.startup_steps++;
    }
}

/* A signal for the reader may come just before it begins to block: it gets one as long as it has not ended. */
static bool hurry_reader(struct live *l)
{
    if (!l->reading || atomic_load(&l->reader_done)) return false;
    pthread_kill(l->reader, SIGALRM);
    os_wake_post(l->space_wake);
    return true;
}

void live_wait(struct live *l, int64_t timeout_ns)
{
    if (l->stopping && hurry_reader(l) && timeout_ns > WAIT_NS / 25) timeout_ns = WAIT_NS / 25;
    os_wake_wait(l->decode_wake, os_signal_fd(), timeout_ns);
}

void live_stop_reading(struct live *l)
{
    l->stopping = true;
    atomic_store(&l->stop_reading, true);
    hurry_reader(l);
}

void live_finish(struct live *l)
{
    int *const fds[] = {&l->encode_wake, &l->decode_wake, &l->space_wake};
    if (!l->encoding) return;
    atomic_store(&l->abandon, true);
    os_wake_post(l->encode_wake);
    live_stop_reading(l);
    while (hurry_reader(l)) sur_clock_sleep_until(sur_clock_ns() + WAIT_NS / 100);
    if (l->reading) pthread_join(l->reader, NULL);
    pthread_join(l->encoder, NULL);
    l->encoding = l->reading = false;
    for (int i = 0; i < 3; i++) {
        if (*fds[i] >= 0) close(*fds[i]);
        *fds[i] = -1;
    }
}
