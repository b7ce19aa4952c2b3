#include "cli/device.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/message.h"
#include "cli/os_signal.h"
#include "cli/os_wake.h"
#include "util/clock.h"
#include "util/failure.h"
#include "util/os_thread.h"

enum { N_EVENTS = 8 };

static const int64_t poll_ns = 200000000, finish_ns = 2000000000, stuck_ns = 2500000000;
static const int64_t forever_ns = INT64_MAX;

/* If device_finish abandons the thread, nothing here is freed. */
struct device {
    struct mic *mic;     /* NULL: the thread lists the devices, and ends */
    int wake, main_flag; /* event descriptors: wakes the thread; posted to by the thread when it sets a flag below */

    /* device thread until `opened` is set, then immutable */
    int status;
    char error[512]; /* the line of a failure */
    char *text;      /* the list */
    struct mic_info info;
    struct capture *capture;

    atomic_bool opened, paused, ended; /* the thread sets them */
    atomic_bool stop, pause;           /* the main thread sets them */
    _Atomic int64_t busy_since;        /* since when the thread has been in a call of PortAudio; 0: in none */

    pthread_mutex_t lock;
    struct device_event events[N_EVENTS]; /* under the lock, as are the next two lines */
    unsigned n_in, n_out;
    int main_wake; /* -1: none */

    /* the main thread */
    pthread_t thread;
    bool running, stopped, taken /* the caller owns the capture or the text */;
    int64_t stopped_ns;
    int64_t seen_busy, checked_ns, stuck_for; /* busy_since at the last check; how long that call has been observed */
    bool stuck_reported;                      /* that call was reported */
};

static atomic_bool left_behind;

/* ---- device thread ---- */

static void set_flag(struct device *d, atomic_bool *flag)
{
    atomic_store(flag, true);
    os_wake_post(d->main_flag);
}

static void begin_call(struct device *d)
{
    atomic_store(&d->busy_since, sur_clock_ns());
}

static void end_call(struct device *d)
{
    atomic_store(&d->busy_since, 0);
}

static void add_event(struct device *d, enum mic_event what)
{
    pthread_mutex_lock(&d->lock);
    if (d->n_in - d->n_out < N_EVENTS)
        d->events[d->n_in++ % N_EVENTS] = (struct device_event){.what = what, .info = *mic_get_info(d->mic)};
    if (d->main_wake >= 0) os_wake_post(d->main_wake);
    pthread_mutex_unlock(&d->lock);
}

static void open_or_list(struct device *d)
{
    begin_call(d);
    d->status = d->mic ? mic_open(d->mic) : mic_list(&d->text);
    if (d->status != MIC_OK) snprintf(d->error, sizeof d->error, "%s", failure_text());
    if (d->status == MIC_OK && d->mic) {
        d->info = *mic_get_info(d->mic);
        d->capture = mic_capture(d->mic);
    }
    end_call(d);
    set_flag(d, &d->opened);
}

static void poll_mic(struct device *d)
{
    bool pause = atomic_load(&d->pause), paused = atomic_load(&d->paused);
    begin_call(d);
    if (pause && !paused) {
        mic_pause(d->mic);
        set_flag(d, &d->paused);
    } else if (paused && !pause) {
        mic_resume(d->mic);
        atomic_store(&d->paused, false);
    }
    enum mic_event what = mic_watch(d->mic);
    end_call(d);
    if (what != MIC_NOTHING) add_event(d, what);
}

static void *device_thread(void *arg)
{
    struct device *d = arg;
    open_or_list(d);
    while (d->status == MIC_OK && d->mic && !atomic_load(&d->stop)) {
        poll_mic(d);
        os_wake_wait(d->wake, -1, poll_ns);
    }
    begin_call(d);
    if (d->mic) mic_close(d->mic);
    end_call(d);
    set_flag(d, &d->ended);
    return NULL;
}

/* ---- main thread ---- */

static void destroy(struct device **device)
{
    struct device *d = *device;
    struct capture *capture = d->mic ? mic_capture(d->mic) : NULL;
    if (!d->taken) {
        capture_destroy(&capture);
        free(d->text);
    }
    mic_destroy(&d->mic);
    if (d->wake >= 0) close(d->wake);
    if (d->main_flag >= 0) close(d->main_flag);
    pthread_mutex_destroy(&d->lock);
    free(d);
    *device = NULL;
}

/* Prints a notice once if the thread has been in one call of PortAudio for too long. Counts only time in which this
 * function was called regularly, so that a stopped process or a suspended machine does not look like a sound server
 * that does not answer. */
static void check_stuck(struct device *d)
{
    int64_t busy = atomic_load(&d->busy_since), now = sur_clock_ns(), since = now - d->checked_ns;
    d->checked_ns = now;
    if (busy == 0 || busy != d->seen_busy) {
        d->seen_busy = busy;
        d->stuck_for = 0;
        d->stuck_reported = false;
        return;
    }
    d->stuck_for += since < 2 * poll_ns ? since : 2 * poll_ns;
    if (d->stuck_for < stuck_ns || d->stuck_reported) return;
    message_notice(MESSAGE_ANY, "the sound server does not answer: still waiting");
    d->stuck_reported = true;
}

/* Sleeps until the thread has set the flag, until until_ns or, with by_signal, until a stop is requested; meanwhile
 * Ctrl-Z stops the process. Returns the flag. */
static bool wait_until(struct device *d, const atomic_bool *flag, int64_t until_ns, bool by_signal)
{
    while (!atomic_load(flag) && sur_clock_ns() < until_ns && !(by_signal && os_signal_stop())) {
        int64_t left = until_ns - sur_clock_ns();
        os_wake_wait(d->main_flag, by_signal ? os_signal_fd() : -1, left < poll_ns ? left > 0 ? left : 0 : poll_ns);
        if (by_signal && until_ns == forever_ns && os_signal_suspend()) os_signal_sleep();
        if (until_ns == forever_ns) check_stuck(d);
    }
    return atomic_load(flag);
}

/* Owns mic, also on failure. */
static struct device *create(struct mic *mic)
{
    struct device *d = calloc(1, sizeof *d);
    if (!d) mic_destroy(&mic);
    if (!d) return NULL;
    pthread_mutex_init(&d->lock, NULL);
    d->main_wake = -1;
    d->wake = os_wake_open();
    d->main_flag = os_wake_open();
    d->mic = mic;
    if (d->wake >= 0 && d->main_flag >= 0) d->running = sur_thread_start(&d->thread, device_thread, d) == 0;
    if (d->running) return d;
    destroy(&d);
    return NULL;
}

/* Starts the thread and waits until it has opened mic, or listed the devices. On MIC_OK the caller owns the device. */
static int start(struct device **device, struct mic *mic)
{
    struct device *d = *device = create(mic);
    if (!d) return failure(MIC_FAILED, "not enough memory or threads for the microphone");
    bool answered = wait_until(d, &d->opened, forever_ns, true);
    int status = answered ? d->status : DEVICE_INTERRUPTED;
    d->taken = status == MIC_OK;
    if (status == MIC_OK) return status;
    if (answered) failure(status, "%s", d->error);
    device_finish(device);
    return status;
}

int device_open(struct device **device, struct capture **capture, const char *name, int channel)
{
    struct mic *mic = mic_create(name, channel);
    *device = NULL;
    int status = mic ? start(device, mic) : failure(MIC_FAILED, "not enough memory for the microphone");
    *capture = status == MIC_OK ? (*device)->capture : NULL;
    return status;
}

int device_list(char **text)
{
    struct device *d;
    int status = start(&d, NULL);
    *text = status == MIC_OK ? d->text : NULL;
    if (status == MIC_OK) device_finish(&d);
    return status;
}

const struct mic_info *device_info(const struct device *d)
{
    return &d->info;
}

void device_set_wake(struct device *d, int fd)
{
    pthread_mutex_lock(&d->lock);
    d->main_wake = fd;
    pthread_mutex_unlock(&d->lock);
}

struct device_event device_poll(struct device *d)
{
    struct device_event event = {MIC_NOTHING};
    pthread_mutex_lock(&d->lock);
    if (d->n_out != d->n_in) event = d->events[d->n_out++ % N_EVENTS];
    pthread_mutex_unlock(&d->lock);
    if (!d->stopped) check_stuck(d);
    return event;
}

void device_pause(struct device *d)
{
    atomic_store(&d->pause, true);
    os_wake_post(d->wake);
    wait_until(d, &d->paused, sur_clock_ns() + finish_ns, true);
}

void device_resume(struct device *d)
{
    atomic_store(&d->pause, false);
    os_wake_post(d->wake);
}

void device_stop(struct device *d)
{
    if (d->stopped) return;
    d->stopped = true;
    d->stopped_ns = sur_clock_ns();
    if (d->mic) mic_stop(d->mic);
    if (atomic_load(&d->opened) && d->capture) capture_end(d->capture);
    atomic_store(&d->stop, true);
    os_wake_post(d->wake);
}

bool device_finish(struct device **device)
{
    struct device *d = *device;
    if (!d) return true;
    device_stop(d);
    device_set_wake(d, -1);
    bool hangs = d->stuck_reported && atomic_load(&d->busy_since) == d->seen_busy;
    bool ended = wait_until(d, &d->ended, d->stopped_ns + (hangs ? 0 : finish_ns), false);
    *device = NULL;
    if (ended) {
        pthread_join(d->thread, NULL);
        destroy(&d);
        return true;
    }
    if (!hangs) message_notice(MESSAGE_ANY, "the sound server does not answer: ending without it");
    pthread_detach(d->thread);
    atomic_store(&left_behind, true);
    return false;
}

bool device_left_behind(void)
{
    return atomic_load(&left_behind);
}
