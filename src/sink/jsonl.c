/* jsonl: an object a line, flushed; valid UTF-8 and RFC 8259 whatever the model says.
 *
 * "alt" of a text object lists the group's text with one of its pieces replaced by a runner-up, and the runner-up's
 * probability over the best's: [["there",0.9120],...]. It is empty without --alternatives. */
#include <inttypes.h>
#include <string.h>

#include "sink/json.h"
#include "sink/sink.h"

enum { MAX_NOTES = 192, NOTE_BYTES = 260 };

/* A runner-up to a piece, which takes bytes [start, start + n) of the text since the last group. */
struct note {
    size_t start, n;
    float ratio;
    char text[NOTE_BYTES];
};

struct jsonl_sink {
    struct sink base;
    struct note notes[MAX_NOTES];
    int n_notes;
    size_t n_text; /* bytes since the last group */
};

static void append_string(struct output *out, const char *name, const char *text)
{
    output_printf(out, ",\"%s\":", name);
    json_append_string(out, text);
}

static void append_time(struct output *out, const char *name, int64_t samples)
{
    int64_t ms = samples * 1000 / SUR_RATE;
    output_printf(out, ",\"%s\":%" PRId64 ".%03d", name, ms / 1000, (int)(ms % 1000));
}

static int on_start(struct sink *sink, const struct sink_start *start)
{
    output_printf(sink->out, "{\"type\":\"start\",\"version\":\"%s\"", SUR_VERSION);
    append_string(sink->out, "model", start->model);
    append_string(sink->out, "backend", start->backend);
    output_printf(sink->out, ",\"delay_ms\":%d,\"rate\":%d", start->delay_ms, start->rate);
    append_string(sink->out, "wall", start->wall);
    output_printf(sink->out, "}\n");
    return output_flush(sink->out);
}

static void on_token(struct jsonl_sink *s, const struct sur_event *event)
{
    size_t n = strlen(event->text);
    for (int i = 0; i < event->n_alternatives && n > 0 && !event->special; i++) {
        const struct sur_alternative *a = &event->alternatives[i];
        if (s->n_notes == MAX_NOTES || !sink_shows_alternative(&s->base.options, a) || strlen(a->text) >= NOTE_BYTES)
            continue;
        struct note *note = &s->notes[s->n_notes++];
        note->start = s->n_text;
        note->n = n;
        note->ratio = a->ratio;
        strcpy(note->text, a->text);
    }
    s->n_text += n;
}

/* The notes within the first n bytes are the group's; what came after it is kept for the next. */
static void append_alternatives(struct jsonl_sink *s, const char *text, size_t n)
{
    struct output *out = s->base.out;
    int kept = 0;
    const char *comma = "";
    output_printf(out, ",\"alt\":[");
    for (int i = 0; i < s->n_notes; i++) {
        struct note *note = &s->notes[i];
        if (note->start >= n) {
            note->start -= n;
            s->notes[kept++] = *note;
        } else if (note->start + note->n <= n) {
            output_printf(out, "%s[\"", comma);
            json_append_text(out, text, note->start);
            json_append_text(out, note->text, strlen(note->text));
            json_append_text(out, text + note->start + note->n, n - note->start - note->n);
            output_printf(out, "\",%.4f]", (double)note->ratio);
            comma = ",";
        }
    }
    output_append(out, "]", 1);
    s->n_notes = kept;
    s->n_text -= n < s->n_text ? n : s->n_text;
}

static int on_event(struct sink *sink, const struct sur_event *event)
{
    static const char *const reasons[] = {[SUR_SKIP_LAG] = "lag", [SUR_SKIP_GAP] = "gap", [SUR_SKIP_DEVICE] = "device"};
    struct jsonl_sink *s = (struct jsonl_sink *)sink;
    struct output *out = sink->out;
    switch (event->type) {
    case SUR_EVENT_TOKEN:
        on_token(s, event);
        return SUR_OK;
    case SUR_EVENT_GROUP:
        output_printf(out, "{\"type\":\"text\"");
        append_time(out, "t0", event->t0);
        append_time(out, "t1", event->t1);
        append_string(out, "text", event->text);
        append_alternatives(s, event->text, strlen(event->text));
        break;
    case SUR_EVENT_SKIP:
        output_printf(out, "{\"type\":\"skip\"");
        append_time(out, "t0", event->t0);
        append_time(out, "t1", event->t1);
        append_string(out, "why", reasons[event->why]);
        break;
    case SUR_EVENT_END:
        output_printf(out, "{\"type\":\"end\"");
        append_time(out, "t", event->t1);
        output_printf(out, ",\"steps\":%" PRId64, event->step);
        append_time(out, "skipped", event->skipped);
        break;
    }
    output_append(out, "}\n", 2);
    return output_flush(out);
}

static int on_device(struct sink *sink, const struct sink_device *device)
{
    output_printf(sink->out, "{\"type\":\"device\"");
    append_time(sink->out, "t", device->t);
    append_string(sink->out, "state", device->lost ? "lost" : "back");
    append_string(sink->out, "name", device->name);
    output_append(sink->out, "}\n", 2);
    return output_flush(sink->out);
}

const struct sink_class sink_jsonl = {
    .name = "jsonl", .size = sizeof(struct jsonl_sink), .start = on_start, .event = on_event, .device = on_device};
