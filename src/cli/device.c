#include "cli/device.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "cli/os_signal.h"
#include "cli/os_wake.h"

enum { LOOK_NS = 200000000, N_EVENTS = 8, PATIENCE_S = 2 };

struct device {
    struct mic *mic; /* the thread's, once it runs */
    struct mic_info info;
    struct capture *capture;
    pthread_t thread;
    bool running;
    int wake, paused_wake;
    atomic_bool stop, pause;
    atomic_int main_wake; /* -1: none yet */
    pthread_mutex_t lock;
    struct device_event events[N_EVENTS]; /* under the lock */
    unsigned n_in, n_out;
};

static void tell(struct device *d, enum mic_event what)
{
    pthread_mutex_lock(&d->lock);
    if (d->n_in - d->n_out < N_EVENTS)
        d->events[d->n_in++ % N_EVENTS] = (struct device_event){.what = what, .info = *mic_get_info(d->mic)};
    pthread_mutex_unlock(&d->lock);
    int fd = atomic_load(&d->main_wake);
    if (fd >= 0) os_wake_post(fd);
}

static void *watch_thread(void *arg)
{
    struct device *d = arg;
    bool paused = false;
    while (!atomic_load(&d->stop)) {
        bool pause = atomic_load(&d->pause);
        if (pause && !paused) {
            mic_pause(d->mic);
            os_wake_post(d->paused_wake);
        } else if (paused && !pause) {
            mic_resume(d->mic);
        }
        paused = pause;
        enum mic_event what = mic_watch(d->mic);
        if (what != MIC_NOTHING) tell(d, what);
        os_wake_wait(d->wake, -1, LOOK_NS);
    }
    mic_close(&d->mic);
    capture_end(d->capture);
    return NULL;
}

static void destroy(struct device **device)
{
    struct device *d = *device;
    if (d->wake >= 0) close(d->wake);
    if (d->paused_wake >= 0) close(d->paused_wake);
    pthread_mutex_destroy(&d->lock);
    free(d);
    *device = NULL;
}

int device_open(struct device **device, struct capture **capture, const char *name, char error[MIC_ERROR_BYTES])
{
    struct device *d = calloc(1, sizeof *d);
    sigset_t old;
    *device = d;
    *capture = NULL;
    if (!d) {
        snprintf(error, MIC_ERROR_BYTES, "not enough memory for the microphone");
        return MIC_FAILED;
    }
    pthread_mutex_init(&d->lock, NULL);
    d->wake = os_wake_open();
    d->paused_wake = os_wake_open();
    atomic_store(&d->main_wake, -1);
    os_signal_block(&old); /* for PortAudio's threads, too */
    int status = mic_open(&d->mic, capture, name, error);
    if (status == MIC_OK) {
        d->info = *mic_get_info(d->mic);
        d->capture = *capture;
        d->running = pthread_create(&d->thread, NULL, watch_thread, d) == 0;
        if (!d->running) {
            snprintf(error, MIC_ERROR_BYTES, "cannot start a thread");
            status = MIC_FAILED;
            mic_close(&d->mic);
        }
    }
    os_signal_restore(&old);
    if (status == MIC_OK) return status;
    capture_destroy(capture);
    destroy(device);
    return status;
}

const struct mic_info *device_info(const struct device *d)
{
    return &d->info;
}

void device_wake_by(struct device *d, int fd)
{
    atomic_store(&d->main_wake, fd);
}

struct device_event device_poll(struct device *d)
{
    struct device_event event = {MIC_NOTHING};
    pthread_mutex_lock(&d->lock);
    if (d->n_out != d->n_in) event = d->events[d->n_out++ % N_EVENTS];
    pthread_mutex_unlock(&d->lock);
    return event;
}

void device_pause(struct device *d)
{
    atomic_store(&d->pause, true);
    os_wake_post(d->wake);
    os_wake_wait(d->paused_wake, -1, (int64_t)PATIENCE_S * 1000000000);
}

void device_resume(struct device *d)
{
    atomic_store(&d->pause, false);
    os_wake_post(d->wake);
}

void device_stop(struct device *d)
{
    atomic_store(&d->stop, true);
    os_wake_post(d->wake);
}

bool device_finish(struct device **device)
{
    struct device *d = *device;
    struct timespec soon;
    if (!d) return true;
    device_stop(d);
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_sec += PATIENCE_S;
    bool ended = pthread_timedjoin_np(d->thread, NULL, &soon) == 0;
    if (ended)
        destroy(device);
    else
        pthread_detach(d->thread);
    *device = NULL;
    return ended;
}
