/* The microphone, by PortAudio. Samples go into a capture (audio/capture.h) from PortAudio's callback, from mic_open
 * on. PortAudio knows no hot-plugging: a device that is lost is reopened after a full restart of it.
 *
 * One thread at a time calls these; they may block for as long as a sound server likes. Where the build has no
 * PortAudio the same calls say so (source_mic_none.c). */
#ifndef SOURCE_MIC_H
#define SOURCE_MIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "audio/capture.h"

enum { MIC_ERROR_BYTES = 512, MIC_NAME_BYTES = 128, MIC_SECONDS = 120 };

struct mic;

enum mic_status { MIC_OK = 0, MIC_NO_DEVICE = -1, MIC_FAILED = -2 };

struct mic_info {
    char name[MIC_NAME_BYTES]; /* printable UTF-8 */
    int rate;                  /* of the capture: what the device had when it was opened first */
    int device_rate, channels; /* of the device now; the rest is done in the callback */
};

/* What mic_watch has seen. */
enum mic_event { MIC_NOTHING, MIC_LOST, MIC_BACK, MIC_ZEROS /* 5 s of nothing but zeros; once a run */ };

/* device: an index, a part of a name in any case, or NULL for the default one. On success *mic captures into *capture,
 * which holds MIC_SECONDS and is the caller's to destroy after mic_close. MIC_NO_DEVICE, MIC_FAILED with a line. */
int mic_open(struct mic **mic, struct capture **capture, const char *device, char error[MIC_ERROR_BYTES]);
const struct mic_info *mic_get_info(const struct mic *mic);
/* Every 100 to 500 ms: finds out whether the device still delivers, and reopens one that is lost. */
enum mic_event mic_watch(struct mic *mic);
void mic_pause(struct mic *mic);  /* lets the device go */
void mic_resume(struct mic *mic); /* mic_watch opens it again; the time between is marked, and no event */
void mic_close(struct mic **mic); /* and no callback comes any more */

/* A table of the devices, a line each, the caller's to free. MIC_NO_DEVICE, MIC_FAILED with a line. */
int mic_list(char **text, char error[MIC_ERROR_BYTES]);

#endif
