#include "cli/audio_in.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/exit_status.h"
#include "cli/message.h"
#include "cli/os_signal.h"
#include "util/clock.h"
#include "util/failure.h"

/* Samples per read of standard input: so many that nothing stays in the source's own buffer when a read gives less. */
enum { MAX_SAMPLES = 65536 };

bool audio_in_is_stream(const char *path)
{
    struct stat is;
    return strcmp(path, "-") == 0 || (stat(path, &is) == 0 && !S_ISREG(is.st_mode));
}

int audio_in_failed(int status)
{
    if (status == SOURCE_INTERRUPTED) return EXIT_DONE; /* a signal came before any audio */
    message_error("%s", failure_text());
    return status == SOURCE_USAGE ? EXIT_USAGE : EXIT_FAILED;
}

int audio_in_read(struct audio_in *in)
{
    ptrdiff_t n;
    do {
        n = in->source.read(&in->source, in->frames, in->max_frames);
    } while (n == SOURCE_INTERRUPTED && !os_signal_stop());
    if (n < 0 && !os_signal_stop()) return audio_in_failed((int)n);
    in->n_frames = n > 0 ? (size_t)n : 0;
    in->ended = n <= 0;
    if (n > 0 && in->first_wall == 0) in->first_wall = sur_clock_wall_ns();
    if (!in->live) downmix_run(&in->mix, in->frames, in->n_frames, in->frames); /* else the capture does */
    return EXIT_DONE;
}

static int open_microphone(struct audio_in *in, const struct options *o)
{
    in->live = true;
    os_signal_watch_suspend();
    int status = device_open(&in->device, &in->capture, o->device, o->channel);
    in->ended = status == DEVICE_INTERRUPTED;
    if (in->ended) return EXIT_DONE;
    if (status != MIC_OK) {
        message_error("%s", failure_text());
        return status == MIC_USAGE ? EXIT_USAGE : EXIT_NO_DEVICE;
    }
    const struct mic_info *info = device_info(in->device);
    memcpy(in->source.name, info->name, sizeof in->source.name);
    in->source.rate = info->rate;
    in->source.channels = info->channels;
    message_debug("microphone %s: %d Hz, channels: %d", info->name, info->rate, info->channels);
    return EXIT_DONE;
}

static void print_notice(const char *line)
{
    message_notice(MESSAGE_ANY, "%s", line);
}

static int open_source(struct audio_in *in, const struct options *o)
{
    struct source_options so = {
        .pcm = (enum source_pcm)o->pcm, .rate = o->rate, .channels = o->channels, .notice = print_notice};
    int status;
    do {
        status = strcmp(o->source, "-") == 0 ? source_stdin_open(&in->source, &so)
                                             : source_file_open(&in->source, o->source, &so);
    } while (status == SOURCE_INTERRUPTED && !os_signal_stop());
    in->ended = status != SOURCE_OK;
    return status == SOURCE_OK ? EXIT_DONE : audio_in_failed(status);
}

int audio_in_open(struct audio_in *in, const struct options *o)
{
    if (!o->source) return open_microphone(in, o);
    in->slow_writer = audio_in_is_stream(o->source); /* before it is opened: a FIFO may be unlinked afterwards */
    int status = open_source(in, o);
    if (status != EXIT_DONE || in->ended) return status;
    if (o->channel > in->source.channels) {
        message_error("--channel %d: %s has %d channel%s", o->channel, in->source.name, in->source.channels,
                      in->source.channels == 1 ? "" : "s");
        return EXIT_USAGE;
    }
    in->live = o->pace || in->slow_writer || in->source.grows;
    downmix_init(&in->mix, in->source.rate, in->source.channels, o->channel);
    in->max_frames = MAX_SAMPLES / (size_t)in->source.channels;
    in->frames = malloc(MAX_SAMPLES * sizeof *in->frames);
    if (in->frames) return audio_in_read(in);
    message_error("not enough memory for samples");
    return EXIT_FAILED;
}

int64_t audio_in_first_wall(const struct audio_in *in, const struct options *o)
{
    return in->device ? capture_first_wall(in->capture) : o->pace ? 0 : in->first_wall;
}

void audio_in_report_sound(const char *what, const char *name, enum downmix_event event)
{
    enum message_topic topic = event == DOWNMIX_ZEROS   ? MESSAGE_ZEROS
                               : event == DOWNMIX_QUIET ? MESSAGE_QUIET
                                                        : MESSAGE_ANY;
    message_notice(topic, "%s%s %s", what, name, downmix_text(event));
}

void audio_in_report_mix(struct audio_in *in)
{
    enum downmix_event event;
    while ((event = downmix_poll(&in->mix)) != DOWNMIX_NOTHING) audio_in_report_sound("", in->source.name, event);
}

void audio_in_close(struct audio_in *in)
{
    bool ended = device_finish(&in->device);
    if (ended) capture_destroy(&in->capture); /* else the device's thread may still use it */
    if (in->source.close) in->source.close(&in->source);
    free(in->frames);
}
