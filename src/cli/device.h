/* The device thread of a live run opens, watches and closes the microphone, because each of these calls blocks for as
 * long as a sound server does not answer. The main thread handles signals meanwhile, and never waits for the device
 * thread for more than 2 s. */
#ifndef DEVICE_H
#define DEVICE_H

#include <stdbool.h>

#include "input/capture.h"
#include "input/source_mic.h"

struct device;

enum { DEVICE_INTERRUPTED = -4 }; /* beside enum mic_status: a stop was requested before PortAudio answered */

struct device_event {
    enum mic_event what; /* MIC_NOTHING: no event */
    struct mic_info info;
};

/* All calls are the main thread's. If the sound server has not answered for 2.5 s, a notice says so. */

/* Opens the microphone, name and channel as in mic_create; from then on it captures. MIC_OK, a failure of mic_open with
 * a line (util/failure.h), or DEVICE_INTERRUPTED without one. device_stop ends the capture; the caller destroys it
 * after device_finish. */
int device_open(struct device **device, struct capture **capture, const char *name, int channel);
/* mic_list, with the failures of device_open. The caller frees *text. */
int device_list(char **text);
const struct mic_info *device_info(const struct device *device); /* after the first opening */
/* Returns the next event. */
struct device_event device_poll(struct device *device);
/* Sets an event descriptor (os_wake.h) to be posted to at each event; -1: none. */
void device_set_wake(struct device *device, int fd);
void device_pause(struct device *device); /* closes the microphone; waits for that, at most 2 s */
void device_resume(struct device *device);
void device_stop(struct device *device); /* no more audio: ends the capture */
/* Ends the thread, within 2 s of device_stop. Returns false if the sound server blocks it: then the thread may still
 * use the capture, which must not be destroyed. Takes NULL. */
bool device_finish(struct device **device);
/* Whether a device thread is still blocked in PortAudio: then the process must end by _exit, because exit handlers of
 * libraries would free memory that the thread uses. */
bool device_left_behind(void);

#endif
