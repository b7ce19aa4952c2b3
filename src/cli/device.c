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

static const int64_t look_ns = 200000000, patience_ns = 2000000000, stuck_ns = 2500000000;
static const int64_t forever_ns = INT64_MAX;

/* The thread may outlive the main thread's interest in it: then nothing here is freed. */
struct device {
    struct mic *mic; /* NULL: the thread makes the list of devices, and ends */
    int wake, told;  /* descriptors: posted to for the thread; by the thread when one of the flags below is set */

    /* the thread's until `opened` is set, then immutable */
    int status;
    char error[512]; /* the line of a failure */
    char *text;      /* of the list */
    struct mic_info info;
    struct capture *capture;

    atomic_bool opened, paused, ended; /* the thread sets them */
    atomic_bool stop, pause;           /* the main thread sets them */
    _Atomic int64_t busy_since;        /* when the thread called into PortAudio; 0: it is not there */

    pthread_mutex_t lock;
    struct device_event events[N_EVENTS]; /* under the lock, as are the next two lines */
    unsigned n_in, n_out;
    int main_wake; /* -1: none */

    /* the main thread */
    pthread_t thread;
    bool running, stopped, taken /* the capture or the text is the caller's */;
    int64_t stopped_ns;
    int64_t seen_busy, looked_ns, stuck_for; /* the call that was seen last; for how long it has been looked at */
    bool stuck_said;                         /* of that call */
};

static atomic_bool left_behind;

/* ---- the thread ---- */

static void set(struct device *d, atomic_bool *flag)
{
    atomic_store(flag, true);
    os_wake_post(d->told);
}

static void enter(struct device *d)
{
    atomic_store(&d->busy_since, sur_clock_ns());
}

static void leave(struct device *d)
{
    atomic_store(&d->busy_since, 0);
}

static void tell(struct device *d, enum mic_event what)
{
    pthread_mutex_lock(&d->lock);
    if (d->n_in - d->n_out < N_EVENTS)
        d->events[d->n_in++ % N_EVENTS] = (struct device_event){.what = what, .info = *mic_get_info(d->mic)};
    if (d->main_wake >= 0) os_wake_post(d->main_wake);
    pthread_mutex_unlock(&d->lock);
}

static void open_it(struct device *d)
{
    enter(d);
    d->status = d->mic ? mic_open(d->mic) : mic_list(&d->text);
    if (d->status != MIC_OK) snprintf(d->error, sizeof d->error, "%s", failure_text());
    if (d->status == MIC_OK && d->mic) {
        d->info = *mic_get_info(d->mic);
        d->capture = mic_capture(d->mic);
    }
    leave(d);
    set(d, &d->opened);
}

static void watch(struct device *d)
{
    bool pause = atomic_load(&d->pause), paused = atomic_load(&d->paused);
    enter(d);
    if (pause && !paused) {
        mic_pause(d->mic);
        set(d, &d->paused);
    } else if (paused && !pause) {
        mic_resume(d->mic);
        atomic_store(&d->paused, false);
    }
    enum mic_event what = mic_watch(d->mic);
    leave(d);
    if (what != MIC_NOTHING) tell(d, what);
}

static void *device_thread(void *arg)
{
    struct device *d = arg;
    open_it(d);
    while (d->status == MIC_OK && d->mic && !atomic_load(&d->stop)) {
        watch(d);
        os_wake_wait(d->wake, -1, look_ns);
    }
    enter(d);
    if (d->mic) mic_close(d->mic);
    leave(d);
    set(d, &d->ended);
    return NULL;
}

/* ---- the main thread ---- */

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
    if (d->told >= 0) close(d->told);
    pthread_mutex_destroy(&d->lock);
    free(d);
    *device = NULL;
}

/* One line when the thread has been in one call into PortAudio for too long. Only time in which this thread looked
 * counts: a process that was stopped (SIGSTOP, a suspended machine) says nothing about the sound server. */
static void look_stuck(struct device *d)
{
    int64_t busy = atomic_load(&d->busy_since), now = sur_clock_ns(), since = now - d->looked_ns;
    d->looked_ns = now;
    if (busy == 0 || busy != d->seen_busy) {
        d->seen_busy = busy;
        d->stuck_for = 0;
        d->stuck_said = false;
        return;
    }
    d->stuck_for += since < 2 * look_ns ? since : 2 * look_ns;
    if (d->stuck_for < stuck_ns || d->stuck_said) return;
    message_notice(MESSAGE_ANY, "the sound server does not answer: still waiting");
    d->stuck_said = true;
}

/* Sleeps until the thread has set the flag, or until until_ns; where a signal may end it, Ctrl-Z stops the process. */
static bool wait_until(struct device *d, const atomic_bool *flag, int64_t until_ns, bool by_signal)
{
    while (!atomic_load(flag) && sur_clock_ns() < until_ns && !(by_signal && os_signal_stop())) {
        int64_t left = until_ns - sur_clock_ns();
        os_wake_wait(d->told, by_signal ? os_signal_fd() : -1, left < look_ns ? left > 0 ? left : 0 : look_ns);
        if (by_signal && until_ns == forever_ns && os_signal_suspend()) os_signal_sleep();
        if (until_ns == forever_ns) look_stuck(d);
    }
    return atomic_load(flag);
}

/* Takes mic, also when it fails. */
static struct device *create(struct mic *mic)
{
    struct device *d = calloc(1, sizeof *d);
    if (!d) mic_destroy(&mic);
    if (!d) return NULL;
    pthread_mutex_init(&d->lock, NULL);
    d->main_wake = -1;
    d->wake = os_wake_open();
    d->told = os_wake_open();
    d->mic = mic;
    if (d->wake >= 0 && d->told >= 0) d->running = sur_thread_start(&d->thread, device_thread, d) == 0;
    if (d->running) return d;
    destroy(&d);
    return NULL;
}

/* Starts the thread and waits for the answer to its first question. On MIC_OK the device is the caller's. */
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
    if (!d->stopped) look_stuck(d);
    return event;
}

void device_pause(struct device *d)
{
    atomic_store(&d->pause, true);
    os_wake_post(d->wake);
    wait_until(d, &d->paused, sur_clock_ns() + patience_ns, true);
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
    bool hangs = d->stuck_said && atomic_load(&d->busy_since) == d->seen_busy;
    bool ended = wait_until(d, &d->ended, d->stopped_ns + (hangs ? 0 : patience_ns), false);
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
