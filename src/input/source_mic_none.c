/* A build without PortAudio. */
#include "input/source_mic.h"
#include "util/failure.h"

struct mic {
    char nothing;
};

static int refuse(void)
{
    return failure(MIC_NO_DEVICE, "this build has no microphone support: name a FILE, or - for standard input");
}

struct mic *mic_create(const char *device, int channel)
{
    static struct mic none;
    return &none;
}

int mic_open(struct mic *mic)
{
    return refuse();
}

int mic_list(char **text)
{
    *text = NULL;
    return refuse();
}

const struct mic_info *mic_get_info(const struct mic *mic)
{
    return NULL;
}

struct capture *mic_capture(const struct mic *mic)
{
    return NULL;
}

enum mic_event mic_watch(struct mic *mic)
{
    return MIC_NOTHING;
}

void mic_pause(struct mic *mic) {}
void mic_resume(struct mic *mic) {}
void mic_stop(struct mic *mic) {}
void mic_close(struct mic *mic) {}

void mic_destroy(struct mic **mic)
{
    *mic = NULL;
}
