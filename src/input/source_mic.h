/* The microphone, by PortAudio. From mic_open on, PortAudio's callback puts samples into a capture (input/capture.h).
 * PortAudio has no hot-plugging: a lost device is reopened after PortAudio was shut down and started again.
 *
 * Thread-safety: mic_open, mic_watch, mic_pause, mic_resume, mic_close and mic_list block for as long as a sound server
 * does not answer, so one thread is reserved for them. Another thread calls mic_create, mic_stop and mic_destroy, which
 * never wait for PortAudio. A build without PortAudio has the same calls (source_mic_none.c), which fail. */
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
    int device_rate, channels; /* of the device now; the callback converts */
    enum downmix_event sound;  /* of MIC_SOUND */
    bool late;                 /* of MIC_DELIVERS */
};

/* Results of mic_watch. MIC_LOST follows only after samples were delivered, and MIC_BACK only after MIC_LOST: the two
 * alternate. */
enum mic_event {
    MIC_NOTHING,
    MIC_LOST,     /* the device stopped delivering */
    MIC_BACK,     /* the device delivers again */
    MIC_LATE,     /* nothing was delivered within 3 s after mic_open or mic_resume */
    MIC_DELIVERS, /* the first block after mic_open or mic_resume; mic_info.late: after MIC_LATE */
    MIC_SOUND,    /* mic_info.sound says what is wrong with the samples */
};

/* device: an index, a part of a name in upper or lower case, or NULL for the default device; the string must live as
 * long as the microphone. channel: the channel to use, counted from 1, or 0 for all live ones (input/downmix.h).
 * Returns NULL if there is not enough memory. */
struct mic *mic_create(const char *device, int channel);
/* Opens the device and begins to capture. MIC_OK, or another enum mic_status with a line (util/failure.h); after a
 * failure only mic_close and mic_destroy may be called. */
int mic_open(struct mic *mic);
/* After mic_open. Only device_rate, channels, sound and late change later, in mic_watch. */
const struct mic_info *mic_get_info(const struct mic *mic);
struct capture *mic_capture(const struct mic *mic); /* holds MIC_SECONDS; the caller destroys it after mic_close */
/* To be called every 100 to 500 ms. Detects a device that stopped delivering, and reopens it. */
enum mic_event mic_watch(struct mic *mic);
void mic_pause(struct mic *mic);  /* closes the device */
void mic_resume(struct mic *mic); /* mic_watch reopens it; the time between is a loss without an event */
/* Any thread, between mic_create and mic_destroy. After its return nothing more is put into the capture, even if
 * PortAudio continues, so the caller may call capture_end. */
void mic_stop(struct mic *mic);
void mic_close(struct mic *mic);    /* on return no callback runs any more */
void mic_destroy(struct mic **mic); /* takes NULL */

/* Sets *text to a table of the devices, one per line, which the caller frees. MIC_OK, or MIC_NO_DEVICE or MIC_FAILED
 * with a line. */
int mic_list(char **text);

#endif
