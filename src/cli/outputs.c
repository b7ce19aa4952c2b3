#include "cli/outputs.h"

#include <sys/ioctl.h>

#include "cli/exit_status.h"
#include "cli/message.h"
#include "cli/os_signal.h"
#include "util/clock.h"
#include "util/failure.h"

enum { TEXT_WIDTH = 80 };

static int terminal_columns(int fd)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_col > TEXT_WIDTH) return TEXT_WIDTH;
    return size.ws_col;
}

static int open_text(struct outputs *out, const struct options *o, struct sink_options *so)
{
    int status = output_open(&out->text, o->output);
    if (status != SUR_OK) return status;
    if (so->width == 0 && output_is_terminal(&out->text)) so->width = terminal_columns(out->text.fd);
    return sink_create(&out->sinks[OUTPUTS_TEXT], options_formats[o->format], &out->text, so);
}

int outputs_open(struct outputs *out, const struct options *o, bool drawn)
{
    struct sink_options so = {.width = o->width,
                              .timestamps = o->timestamps,
                              .show_alternatives = o->alternatives >= 0,
                              .cutoff = o->alternatives};
    int status = SUR_OK;
    if (o->caption_file) {
        status = sink_create_caption_file(&out->sinks[OUTPUTS_CAPTION_FILE], o->caption_file, &so);
        os_signal_before_exit(sink_caption_file_abandon); /* a caption must not stay for ever */
    }
    if (drawn && !o->output)
        out->text.fd = -1;
    else if (status == SUR_OK)
        status = open_text(out, o, &so);
    if (status == SUR_OK) return EXIT_DONE;
    message_error("%s", failure_text());
    return EXIT_FAILED;
}

bool outputs_any(const struct outputs *out)
{
    for (int i = 0; i < OUTPUTS_COUNT; i++)
        if (out->sinks[i]) return true;
    return false;
}

enum call { START, EVENT, DEVICE, REST, TICK };

static int call_sink(struct sink *sink, enum call call, const void *argument)
{
    switch (call) {
    case START:
        return sink_start(sink, argument);
    case EVENT:
        return sink_event(sink, argument);
    case DEVICE:
        return sink_device(sink, argument);
    case REST:
        return sink_rest(sink);
    default:
        return sink_tick(sink, *(const int64_t *)argument);
    }
}

static int call_all(struct outputs *out, enum call call, const void *argument)
{
    for (int i = 0; i < OUTPUTS_COUNT; i++) {
        int status = out->sinks[i] ? call_sink(out->sinks[i], call, argument) : SUR_OK;
        if (status == OUTPUT_CLOSED) sink_destroy(&out->sinks[i]);
        if (status >= 0) continue;
        message_error("%s", failure_text());
        if (i != OUTPUTS_CAPTION_FILE) return EXIT_FAILED;
        out->caption_file_failed = true;
    }
    return EXIT_DONE;
}

int outputs_start(struct outputs *out, const struct sink_start *start)
{
    return call_all(out, START, start);
}

int outputs_events(struct outputs *out, struct sur_session *session)
{
    struct sur_event event;
    int status = EXIT_DONE;
    while (status == EXIT_DONE && outputs_any(out) && sur_session_poll(session, &event) == SUR_OK)
        status = call_all(out, EVENT, &event);
    return status;
}

int outputs_device(struct outputs *out, const struct sink_device *device)
{
    return call_all(out, DEVICE, device);
}

int outputs_rest(struct outputs *out)
{
    return call_all(out, REST, NULL);
}

int outputs_tick(struct outputs *out)
{
    int64_t now = sur_clock_ns();
    return call_all(out, TICK, &now);
}

int outputs_close(struct outputs *out)
{
    for (int i = 0; i < OUTPUTS_COUNT; i++) sink_destroy(&out->sinks[i]);
    if (output_close(&out->text) == SUR_OK) return EXIT_DONE;
    message_error("%s", failure_text());
    return EXIT_FAILED;
}
