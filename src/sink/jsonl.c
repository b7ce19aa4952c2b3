/* jsonl: one JSON object per line, flushed; valid RFC 8259 and UTF-8, whatever text the model produces.
 *
 * "alt" of a text object lists alternatives for the group's text: the text with one piece replaced by another token,
 * and that token's probability divided by the best token's: [["there",0.9120],...]. Without --alternatives it is empty.
 */
#include <inttypes.h>
#include <string.h>

#include "sink/json.h"
#include "sink/sink.h"

enum { MAX_ALTERNATIVES = 192, ALTERNATIVE_BYTES = 260 };

/* An alternative for a piece, which is bytes [start, start + n) of the text since the last group. */
struct alternative {
    size_t start, n;
    float ratio;
    char text[ALTERNATIVE_BYTES];
};

struct jsonl_sink {
    struct sink base;
    struct alternative alternatives[MAX_ALTERNATIVES];
    int n_alternatives;
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
        if (s->n_alternatives == MAX_ALTERNATIVES || !sink_shows_alternative(&s->base.options, a) ||
            strlen(a->text) >= ALTERNATIVE_BYTES)
            continue;
        struct alternative *saved = &s->alternatives[s->n_alternatives++];
        saved->start = s->n_text;
        saved->n = n;
        saved->ratio = a->ratio;
        strcpy(saved->text, a->text);
    }
    s->n_text += n;
}

/* Alternatives within the first n bytes belong to the group and are written; later ones are kept for the next group. */
static void append_alternatives(struct jsonl_sink *s, const char *text, size_t n)
{
    struct output *out = s->base.out;
    int kept = 0;
    const char *comma = "";
    output_printf(out, ",\"alt\":[");
    for (int i = 0; i < s->n_alternatives; i++) {
        struct alternative *saved = &s->alternatives[i];
        if (saved->start >= n) {
            saved->start -= n;
            s->alternatives[kept++] = *saved;
        } else if (saved->start + saved->n <= n) {
            output_printf(out, "%s[\"", comma);
            json_append_text(out, text, saved->start);
            json_append_text(out, saved->text, strlen(saved->text));
            json_append_text(out, text + saved->start + saved->n, n - saved->start - saved->n);
            output_printf(out, "\",%.4f]", (double)saved->ratio);
            comma = ",";
        }
    }
    output_append(out, "]", 1);
    s->n_alternatives = kept;
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
