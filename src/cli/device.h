/* The microphone in a live run: a thread of its own opens, watches and closes it, because each of these hangs for as
 * long as a sound server does not answer. The main thread hears signals meanwhile, and never waits for that thread for
 * more than 2 s. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>

#include "input/capture.h"
#include "input/source_mic.h"

struct device;

enum { DEVICE_INTERRUPTED = -4 }; /* beside enum mic_status: the end was asked for before there was an answer */

struct device_event {
    enum mic_event what; /* MIC_NOTHING: there is none */
    struct mic_info info;
};

/* All of these are for the main thread. When the sound server has not answered for some seconds, one line says so. */

/* Opens the microphone, name and channel as in mic_create; it captures from now on. MIC_OK, its failure with a line, or
 * DEVICE_INTERRUPTED without one. The capture is ended by device_stop, and the caller's to destroy after device_finish.
 */
int device_open(struct device **device, struct capture **capture, const char *name, int channel);
/* mic_list, with the same failures as device_open; *text is the caller's to free. */
int device_list(char **text);
const struct mic_info *device_info(const struct device *device); /* as it was opened first */
/* Takes what has happened last; the descriptor is posted to (os_wake.h) when something has, until it is -1. */
struct device_event device_poll(struct device *device);
void device_set_wake(struct device *device, int fd);
void device_pause(struct device *device); /* waits until the microphone has been let go, 2 s at most */
void device_resume(struct device *device);
void device_stop(struct device *device); /* no more sound: the capture has ended */
/* Ends the thread, within 2 s of device_stop. False: the sound server holds it up; then the capture must be left alone.
 * Takes NULL. */
bool device_finish(struct device **device);
/* A thread was left behind in PortAudio: what it uses must not be torn down, so the process must end by _exit. */
bool device_left_behind(void);

#endif
