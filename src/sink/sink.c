#include "sink/sink.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/failure.h"

int sink_allocate(struct sink **sink, const struct sink_class *class, struct output *out,
                  const struct sink_options *options)
{
    struct sink *s = calloc(1, class->size);
    *sink = s;
    if (!s) return failure(SUR_ERR_MEMORY, "not enough memory for the %s output", class->name);
    s->class = class;
    s->out = out;
    s->options = *options;
    return SUR_OK;
}

int sink_create(struct sink **sink, const char *format, struct output *out, const struct sink_options *options)
{
    static const struct sink_class *const classes[] = {&sink_text, &sink_jsonl, &sink_srt, &sink_vtt, &sink_tokens};
    *sink = NULL;
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++)
        if (strcmp(format, classes[i]->name) == 0) return sink_allocate(sink, classes[i], out, options);
    return failure(SUR_ERR_ARGUMENT, "unknown output format: %s", format);
}

void sink_destroy(struct sink **sink)
{
    if (!*sink) return;
    if ((*sink)->class->destroy) (*sink)->class->destroy(*sink);
    free(*sink);
    *sink = NULL;
}

int sink_start(struct sink *sink, const struct sink_start *start)
{
    return sink->class->start ? sink->class->start(sink, start) : SUR_OK;
}

int sink_event(struct sink *sink, const struct sur_event *event)
{
    return sink->class->event(sink, event);
}

int sink_device(struct sink *sink, const struct sink_device *device)
{
    return sink->class->device ? sink->class->device(sink, device) : SUR_OK;
}

int sink_rest(struct sink *sink)
{
    return sink->class->rest ? sink->class->rest(sink) : SUR_OK;
}

int sink_tick(struct sink *sink, int64_t now_ns)
{
    return sink->class->tick ? sink->class->tick(sink, now_ns) : SUR_OK;
}

bool sink_shows_alternative(const struct sink_options *options, const struct sur_alternative *alternative)
{
    return options->show_alternatives && alternative->text[strspn(alternative->text, " ")] &&
           alternative->ratio >= 1.0f - options->cutoff;
}

void sink_append_time(struct output *out, int64_t samples, char point)
{
    int64_t ms = samples * 1000 / SUR_RATE;
    output_printf(out, "%02" PRId64 ":%02d:%02d%c%03d", ms / 3600000, (int)(ms / 60000 % 60), (int)(ms / 1000 % 60),
                  point, (int)(ms % 1000));
}

void sink_format_skipped(char text[SINK_SKIPPED_BYTES], const struct sur_event *skip)
{
    snprintf(text, SINK_SKIPPED_BYTES, "[skipped %.1f s]", (double)(skip->t1 - skip->t0) / SUR_RATE);
}
