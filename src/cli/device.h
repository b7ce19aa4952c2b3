/* The microphone in a live run: a thread of its own opens, watches and closes it, since each may take its time. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>

#include "audio/capture.h"
#include "audio/source_mic.h"

struct device;

struct device_event {
    enum mic_event what; /* MIC_NOTHING: there is none */
    struct mic_info info;
};

/* Opens the microphone; it captures from now on. MIC_OK, or its failure with a line. The capture is ended by
 * device_stop, and the caller's to destroy after device_finish. */
int device_open(struct device **device, struct capture **capture, const char *name, char error[MIC_ERROR_BYTES]);
const struct mic_info *device_info(const struct device *device); /* as it was opened first */
/* Main thread. Takes what has happened last; the descriptor is posted to (os_wake.h) when something has. */
struct device_event device_poll(struct device *device);
void device_wake_by(struct device *device, int fd);
void device_pause(struct device *device); /* waits until the microphone has been let go, 2 s at most */
void device_resume(struct device *device);
void device_stop(struct device *device); /* no more sound; the capture ends soon */
/* Ends the thread. False: a sound server holds it up; the capture must be left alone then. Takes NULL. */
bool device_finish(struct device **device);

#endif
