#include "cli/reader.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/os_wake.h"
#include "util/clock.h"
#include "util/failure.h"
#include "util/os_thread.h"

enum { PACE_MS = 20, SECOND_NS = 1000000000, WAIT_NS = 500000000 };

static bool stopped(struct reader *r)
{
    return atomic_load(&r->stop);
}

/* Waits for space: what was read is never dropped here, so a pipe's writer waits, too. False: reader_stop was called.
 */
static bool put(struct reader *r, const float *frames, size_t n, int64_t entry_ns)
{
    size_t most = (size_t)r->source->rate / 10 + 1, channels = (size_t)r->source->channels;
    while (n > 0) {
        size_t m = n < most ? n : most;
        while (!capture_put(r->capture, r->mix, frames, m, entry_ns)) {
            if (stopped(r)) return false;
            if (os_wake_raise(&r->waits_for_space)) os_wake_wait(r->space_wake, -1, WAIT_NS);
        }
        frames += m * channels;
        n -= m;
    }
    os_wake_post(r->wake);
    return true;
}

/* Sleeps until the n frames that were read last have been spoken. Returns when that was, also if the thread woke a
 * little late. If it woke much too late, the process was stopped (Ctrl-Z): then the clock of a file stands still
 * meanwhile, and nothing is lost. Only a source whose writer may be slow catches up. */
static int64_t keep_pace(struct reader *r, size_t n)
{
    r->frames_read += (int64_t)n;
    int64_t due = r->start_ns + (int64_t)((double)r->frames_read * SECOND_NS / (r->source->rate * r->pace));
    bool early = sur_clock_ns() < due;
    while (!stopped(r) && sur_clock_ns() < due) sur_clock_sleep_until(due);
    int64_t late = sur_clock_ns() - due;
    if (late < WAIT_NS || (r->slow_writer && !early)) return due;
    r->start_ns += late;
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

/* Frames per read. */
static size_t read_size(const struct reader *r)
{
    size_t n = (size_t)r->source->rate * PACE_MS / 1000;
    if (r->pace <= 0 || n > r->max_frames) return r->max_frames;
    return n > 0 ? n : 1;
}

/* Returns the number of frames read; 0: the source has ended, has failed, or reader_stop was called. */
static size_t read_frames(struct reader *r, size_t most)
{
    ptrdiff_t n;
    do {
        n = r->source->read(r->source, r->frames, most);
    } while (n == SOURCE_INTERRUPTED && !stopped(r));
    if (n < 0 && !stopped(r)) {
        r->status = (int)n;
        snprintf(r->error, sizeof r->error, "%s", failure_text());
    }
    return n > 0 ? (size_t)n : 0;
}

static void *run(void *arg)
{
    struct reader *r = arg;
    size_t n = r->n_frames, at = 0, most = read_size(r);
    allow_interrupt();
    while (n > 0 && !stopped(r)) {
        size_t m = n < most ? n : most;
        int64_t entry_ns = r->pace > 0 ? keep_pace(r, m) : sur_clock_ns();
        if (!put(r, r->frames + at * (size_t)r->source->channels, m, entry_ns)) break;
        at += m;
        n -= m;
        if (n > 0 || stopped(r)) continue;
        n = read_frames(r, most);
        at = 0;
    }
    if (!stopped(r)) downmix_end(r->mix); /* an input that a signal cut short may be silent only so far */
    capture_end(r->capture);
    atomic_store(&r->done, true);
    os_wake_post(r->wake);
    return NULL;
}

int reader_start(struct reader *r)
{
    r->space_wake = os_wake_open();
    if (r->space_wake < 0) return failure(SUR_ERR_IO, "cannot create an event descriptor");
    r->start_ns = sur_clock_ns();
    r->running = sur_thread_start(&r->thread, run, r) == 0;
    return r->running ? SUR_OK : failure(SUR_ERR_MEMORY, "cannot start a thread");
}

void reader_stop(struct reader *r)
{
    atomic_store(&r->stop, true);
    reader_interrupt(r);
}

bool reader_interrupt(struct reader *r)
{
    if (!r->running || atomic_load(&r->done)) return false;
    pthread_kill(r->thread, SIGALRM);
    os_wake_post(r->space_wake);
    return true;
}

void reader_note_space(struct reader *r)
{
    if (os_wake_lower(&r->waits_for_space)) os_wake_post(r->space_wake);
}

void reader_join(struct reader *r)
{
    while (reader_interrupt(r)) sur_clock_sleep_until(sur_clock_ns() + WAIT_NS / 100);
    if (r->running) pthread_join(r->thread, NULL);
    r->running = false;
}

void reader_close(struct reader *r)
{
    if (r->space_wake > 0) close(r->space_wake);
    r->space_wake = 0;
}
