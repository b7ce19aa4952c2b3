/* The microphone, by PortAudio. Samples go into a capture (input/capture.h) from PortAudio's callback, from mic_open
 * on. PortAudio knows no hot-plugging: a device that is lost is reopened after a full restart of it.
 *
 * PortAudio may hang for as long as a sound server does not answer: in mic_open, mic_watch, mic_pause, mic_close and
 * mic_list. So these are called by a thread of their own, mic_create, mic_stop and mic_destroy by another, which never
 * waits for PortAudio. Where the build has no PortAudio the same calls say so (source_mic_none.c). */
#ifndef SOURCE_MIC_H
#define SOURCE_MIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "input/capture.h"

enum { MIC_NAME_BYTES = 128, MIC_SECONDS = 120 };

struct mic;

enum mic_status {
    MIC_OK = 0,
    MIC_NO_DEVICE = -1,
    MIC_FAILED = -2,
    MIC_USAGE = -3 /* the device has no such channel */
};

struct mic_info {
    char name[MIC_NAME_BYTES]; /* printable UTF-8 */
    int rate;                  /* of the capture: what the device had when it was opened first */
    int device_rate, channels; /* of the device now; the rest is done in the callback */
    enum downmix_event sound;  /* of MIC_SOUND */
    bool late;                 /* of MIC_DELIVERS */
};

/* What mic_watch has seen. MIC_LOST is told only of a device that has delivered, and MIC_BACK only after MIC_LOST: the
 * two take turns. */
enum mic_event {
    MIC_NOTHING,
    MIC_LOST,     /* it delivers no more */
    MIC_BACK,     /* it delivers again */
    MIC_LATE,     /* 3 s after it was opened, or opened again after mic_pause, nothing has come yet */
    MIC_DELIVERS, /* the first block after it was opened, where MIC_BACK is not told; mic_info.late: after MIC_LATE */
    MIC_SOUND,    /* mic_info.sound says what is wrong with what it delivers */
};

/* device: an index, a part of a name in any case, or NULL for the default one; it stays the caller's and must live as
 * long as the microphone. channel: the one to take, counted from 1, or 0 for those that live (input/downmix.h). NULL:
 * not enough memory. */
struct mic *mic_create(const char *device, int channel);
/* Opens the device; from then on it captures. MIC_OK, else another enum mic_status with a line; after a failure
 * mic_close and mic_destroy are all that may be called. */
int mic_open(struct mic *mic);
/* After mic_open: these do not change any more, but for the device's rate and channels when it was reopened. */
const struct mic_info *mic_get_info(const struct mic *mic);
struct capture *mic_capture(const struct mic *mic); /* holds MIC_SECONDS; the caller's to destroy after mic_close */
/* Every 100 to 500 ms: finds out whether the device still delivers, and reopens one that is lost. */
enum mic_event mic_watch(struct mic *mic);
void mic_pause(struct mic *mic);  /* lets the device go */
void mic_resume(struct mic *mic); /* mic_watch opens it again; the time between is marked, and no event */
/* Any thread, at any time between mic_create and mic_destroy. After its return nothing is put into the capture, even if
 * PortAudio goes on, so that capture_end may be called. */
void mic_stop(struct mic *mic);
void mic_close(struct mic *mic);    /* and no callback comes any more */
void mic_destroy(struct mic **mic); /* takes NULL */

/* A table of the devices, a line each, the caller's to free. MIC_NO_DEVICE, MIC_FAILED with a line. */
int mic_list(char **text);

#endif
