#include "cli/live.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/message.h"
#include "cli/os_priority.h"
#include "cli/os_signal.h"
#include "cli/os_wake.h"
#include "util/clock.h"
#include "util/error.h"

enum { PACE_MS = 20, SECOND_NS = 1000000000, WAIT_NS = 500000000, LATE_NS = 100000000, PIECE_MS = 80 };

/* ---- the reader: a file at the speed of speech, a pipe ---- */

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
            if (atomic_exchange(&l->reader_waits, true)) os_wake_wait(l->space_wake, -1, WAIT_NS);
        }
        frames += m * channels;
        n -= m;
    }
    os_wake_post(l->encode_wake);
    return true;
}

/* Sleeps until the frames that were read have been spoken. Returns when that was: who wakes us late is late. */
static int64_t keep_pace(struct live *l, size_t n)
{
    l->frames_read += (int64_t)n;
    int64_t due = l->start_ns + (int64_t)((double)l->frames_read * SECOND_NS / (l->rate * l->pace));
    while (!stop_reading(l) && sur_clock_ns() < due) sur_clock_sleep_until(due);
    return due;
}

static void *read_thread(void *arg)
{
    struct live *l = arg;
    size_t n = l->n_frames, at = 0, most = l->max_frames;
    os_signal_let_interrupt();
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
        if (r < 0 && !stop_reading(l)) l->read_status = (int)r;
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
    return (int64_t)((__int128)frames * SUR_RATE / l->rate);
}

static void owe(struct live *l, const struct capture_piece *p)
{
    l->owed[SUR_SKIP_GAP] += to_16k(l, p->lost[CAPTURE_GAP]);
    l->owed[SUR_SKIP_DEVICE] += to_16k(l, p->lost[CAPTURE_DEVICE]);
}

/* Tells what is owed where the stream stands. False: too many skips wait to be decoded. */
static bool pay(struct live *l)
{
    for (int why = 0; why < 3; why++) {
        if (l->owed[why] == 0) continue;
        if (sur_session_skip(l->session, l->owed[why], (enum sur_skip_reason)why) != SUR_OK) return false;
        if (why == SUR_SKIP_LAG) {
            l->n_lag_skips++;
            message("captions fell behind: %.1f s are skipped", (double)l->owed[why] / SUR_RATE);
        }
        l->owed[why] = 0;
    }
    return true;
}

static void made_room(struct live *l)
{
    if (atomic_load(&l->reader_waits) && atomic_exchange(&l->reader_waits, false)) os_wake_post(l->space_wake);
}

/* Drops the oldest. */
static void drop(struct live *l, int64_t samples)
{
    int64_t before = to_16k(l, l->dropped_frames), left = (int64_t)((__int128)samples * l->rate / SUR_RATE);
    struct capture_piece p;
    while (left > 0 && capture_peek(l->capture, &p)) {
        size_t n = (int64_t)p.n < left ? p.n : (size_t)left;
        owe(l, &p);
        capture_take(l->capture, n);
        l->dropped_frames += (int64_t)n;
        left -= (int64_t)n;
    }
    int64_t dropped = to_16k(l, l->dropped_frames) - before;
    made_room(l);
    l->owed[SUR_SKIP_LAG] += dropped;
}

static void keep_up(struct live *l, const struct sur_session_stats *s)
{
    if (capture_put_in_all(l->capture) == 0) return; /* before the first sample nothing has been kept up with */
    int64_t held = to_16k(l, l->fed_frames) - s->fed_samples, backlog = to_16k(l, capture_waiting(l->capture)) + held;
    struct lag_advice advice = lag_look(&l->lag, backlog);
    atomic_store_explicit(&l->backlog, backlog, memory_order_relaxed);
    if (advice.drop > 0)
        drop(l, advice.drop);
    else if (advice.warn)
        message("captions are %.1f s behind", (double)backlog / SUR_RATE);
    if (l->lag.max_samples == 0) return;
    double ms = lag_too_slow(&l->speed, s->steps, backlog + s->waiting_tokens * SUR_TOKEN_SAMPLES, sur_clock_ns());
    if (ms > 0)
        message("this machine takes %.0f ms for 80 ms of speech: captions will fall behind, and speech will be skipped",
                ms);
}

static float level_of(const float *samples, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)samples[i] * (double)samples[i];
    return n ? (float)sqrt(sum / (double)n) : 0;
}

/* Feeds the oldest block, or 80 ms of it. False: there is nothing to feed now. */
static bool feed(struct live *l)
{
    struct capture_piece p;
    if (!capture_peek(l->capture, &p)) return false;
    owe(l, &p);
    if (!pay(l)) return false;
    size_t most = (size_t)l->rate * PIECE_MS / 1000 + 1;
    size_t n = sur_session_feed(l->session, p.samples, p.n < most ? p.n : most);
    atomic_store_explicit(&l->level, level_of(p.samples, n), memory_order_relaxed);
    capture_take(l->capture, n);
    l->fed_frames += (int64_t)n;
    l->entry_ns = p.entry_ns;
    l->last_block_ns = (int64_t)n * SECOND_NS / l->rate;
    if ((int64_t)p.n > l->longest_block) l->longest_block = (int64_t)p.n;
    made_room(l);
    return n > 0;
}

/* A capture callback makes no system call, so it wakes nobody: the next block is expected when the last one has been
 * spoken once more, and after that looked for every millisecond, seldom if the device has gone silent. */
static void wait_for_samples(struct live *l)
{
    int64_t timeout = WAIT_NS;
    if (!l->source) {
        int64_t late = sur_clock_ns() - (l->entry_ns + l->last_block_ns);
        timeout = l->entry_ns == 0 || late > LATE_NS ? SECOND_NS / 100 : late < -1000000 ? -late : 1000000;
    }
    os_wake_wait(l->encode_wake, -1, timeout);
}

/* All that was fed has been drawn: what has not come out of the resampler is held by it. */
static void note_held(struct live *l)
{
    struct sur_session_stats s;
    sur_session_get_stats(l->session, &s);
    int64_t held = to_16k(l, l->fed_frames) - s.fed_samples;
    if (held > l->longest_held && !l->finished) l->longest_held = held;
}

/* One pass, or one piece fed, or one wait. */
static int encode_once(struct live *l)
{
    struct sur_session_stats s;
    sur_session_get_stats(l->session, &s);
    keep_up(l, &s);
    if (s.waiting_tokens >= LIVE_AHEAD) {
        if (atomic_exchange(&l->encoder_waits, true)) os_wake_wait(l->encode_wake, -1, WAIT_NS / 10);
        return SUR_OK;
    }
    /* before the pass, which publishes the token */
    int64_t entry = l->finished ? 0 : l->lag.begun ? l->entry_ns : -1;
    atomic_store_explicit(&l->arrivals[s.tokens_encoded % LIVE_ARRIVALS], entry, memory_order_relaxed);
    int status = sur_session_encode(l->session, 1);
    if (status == SUR_OK) os_wake_post(l->decode_wake);
    if (status != SUR_AGAIN) return status;
    note_held(l);
    if (feed(l)) return SUR_OK;
    if (!capture_ended(l->capture) || !pay(l)) {
        wait_for_samples(l);
    } else if (!l->finished) {
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
        return sur_fail(SUR_ERR_IO, "cannot create an event descriptor");
    l->lag.max_samples = (int64_t)(l->max_lag * SUR_RATE);
    l->start_ns = sur_clock_ns();
    sigset_t old;
    os_signal_block(&old); /* the main thread alone hears them */
    l->encoding = pthread_create(&l->encoder, NULL, encode_thread, l) == 0;
    l->reading = l->encoding && l->source && pthread_create(&l->reader, NULL, read_thread, l) == 0;
    os_signal_restore(&old);
    if (!l->encoding || (l->source && !l->reading)) return sur_fail(SUR_ERR_MEMORY, "cannot start a thread");
    return SUR_OK;
}

int live_decode(struct live *l)
{
    int status = atomic_load(&l->encode_status);
    if (status == SUR_OK) status = sur_session_decode(l->session, 1);
    if (status == SUR_OK && atomic_exchange(&l->encoder_waits, false)) os_wake_post(l->encode_wake);
    return status;
}

const char *live_error(const struct live *l)
{
    return atomic_load(&l->encode_status) != SUR_OK ? l->encode_error : sur_error_text();
}

void live_written(struct live *l)
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

void live_stop_input(struct live *l)
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
    live_stop_input(l);
    while (hurry_reader(l)) sur_clock_sleep_until(sur_clock_ns() + WAIT_NS / 100);
    if (l->reading) pthread_join(l->reader, NULL);
    pthread_join(l->encoder, NULL);
    l->encoding = l->reading = false;
    for (int i = 0; i < 3; i++) {
        if (*fds[i] >= 0) close(*fds[i]);
        *fds[i] = -1;
    }
}
