/* srt and vtt: one cue per caption line, of at most 2 x 42 columns.
 *
 * A cue begins at t0 of its first group. It ends 1.5 s after t1 of its last group, or at the next cue's t0 if that is
 * earlier. It is written by a single write as soon as its end is known: when the next cue opens, when the source stops,
 * or after 2 s without text, because a later group rarely reaches back that far. If one does (a group of many pieces),
 * its cue begins at the end of the earlier cue. The file is valid at every moment, and cues never overlap. */
#include <inttypes.h>
#include <string.h>

#include "sink/lines.h"
#include "sink/sink.h"

struct subtitle_sink {
    struct sink base;
    struct lines_pause pause;
    char text[4096];  /* of the open cue */
    bool open;        /* a cue is not written yet */
    bool line_ended;  /* the next group opens another cue */
    int64_t t0, t1;   /* of the first and of the last group of the cue */
    int64_t last_end; /* end of the last cue written */
    int64_t n_cues;
    int64_t step; /* of the last token */
};

static bool is_vtt(const struct subtitle_sink *s)
{
    return s->base.class == &sink_vtt;
}

/* Appends one row. Characters that would be read as markup in vtt are escaped, and "-->", which would be read as a line
 * of times, is changed. Neither changes the width. */
static void append_row(struct subtitle_sink *s, const char *text, size_t n)
{
    struct output *out = s->base.out;
    for (size_t i = 0; i < n; i++) {
        if (is_vtt(s) && text[i] == '&')
            output_append(out, "&amp;", 5);
        else if (is_vtt(s) && text[i] == '<')
            output_append(out, "&lt;", 4);
        else if (is_vtt(s) && text[i] == '>')
            output_append(out, "&gt;", 4);
        else if (i >= 2 && memcmp(text + i - 2, "-->", 3) == 0)
            output_append(out, "\xe2\x80\xba", 3); /* U+203A */
        else
            output_append(out, text + i, 1);
    }
    output_append(out, "\n", 1);
}

/* Writes the open cue, if there is one. next_t0: of the next cue, or INT64_MAX. */
static int write_cue(struct subtitle_sink *s, int64_t next_t0)
{
    if (!s->open) return SUR_OK;
    struct output *out = s->base.out;
    struct lines_row rows[SINK_CUE_ROWS];
    int n;
    if (next_t0 < s->t1) next_t0 = s->t1; /* a group may begin before a skip that precedes it */
    int64_t end = s->t1 + SINK_CUE_HOLD_SAMPLES < next_t0 ? s->t1 + SINK_CUE_HOLD_SAMPLES : next_t0;
    if (s->t0 < s->last_end) s->t0 = s->last_end;
    if (end <= s->t0) end = s->t0 + SINK_CUE_HOLD_SAMPLES;
    char point = is_vtt(s) ? '.' : ',';
    s->n_cues++;
    if (!is_vtt(s)) output_printf(out, "%" PRId64 "\n", s->n_cues);
    sink_append_time(out, s->t0, point);
    output_printf(out, " --> ");
    sink_append_time(out, end, point);
    output_append(out, "\n", 1);
    lines_wrap(s->text, SINK_CUE_WIDTH, SINK_CUE_ROWS, rows, &n);
    for (int i = 0; i < n; i++) append_row(s, s->text + rows[i].start, rows[i].n);
    output_append(out, "\n", 1);
    s->last_end = end;
    s->open = false;
    return output_flush(out);
}

static bool fits(const char *text)
{
    struct lines_row rows[SINK_CUE_ROWS];
    int n;
    return !text[lines_wrap(text, SINK_CUE_WIDTH, SINK_CUE_ROWS, rows, &n)];
}

static void open_cue(struct subtitle_sink *s, const char *text, size_t n, int64_t t0, int64_t t1)
{
    memcpy(s->text, text, n);
    s->text[n] = 0;
    s->t0 = t0;
    s->t1 = t1;
    s->open = true;
    s->line_ended = false;
}

/* Adds a group to the open cue. Returns false if its line has ended or has no room. */
static bool join(struct subtitle_sink *s, const char *text, int64_t t1)
{
    size_t n = strlen(s->text);
    if (!s->open || s->line_ended || n + strlen(text) >= sizeof s->text) return false;
    strcpy(s->text + n, text);
    if (fits(s->text)) {
        s->t1 = t1;
        return true;
    }
    s->text[n] = 0;
    return false;
}

/* Opens a cue for a group. A group that is longer than a cue becomes several, which share its time by their bytes. */
static int add_text(struct subtitle_sink *s, const char *text, int64_t t0, int64_t t1)
{
    struct lines_row rows[SINK_CUE_ROWS];
    int n, status = SUR_OK;
    text += strspn(text, " ");
    int64_t length = (int64_t)strlen(text), done = 0;
    while (*text && status == SUR_OK) {
        size_t take = lines_wrap(text, SINK_CUE_WIDTH, SINK_CUE_ROWS, rows, &n);
        int64_t from = t0 + (t1 - t0) * done / length;
        done += (int64_t)take;
        status = write_cue(s, from);
        open_cue(s, text, take, from, t0 + (t1 - t0) * done / length);
        text += take;
    }
    return status;
}

static int on_skip(struct subtitle_sink *s, const struct sur_event *event)
{
    char text[SINK_SKIPPED_BYTES];
    sink_format_skipped(text, event);
    int status = add_text(s, text, event->t0, event->t1);
    s->line_ended = true;
    s->pause = (struct lines_pause){.any = true, .last_step = s->step};
    return status;
}

static int on_event(struct sink *sink, const struct sur_event *event)
{
    struct subtitle_sink *s = (struct subtitle_sink *)sink;
    switch (event->type) {
    case SUR_EVENT_TOKEN:
        s->step = event->step;
        lines_pause_add(&s->pause, event->step, event->text);
        if (event->text[0] || !s->open) return SUR_OK;
        if (lines_pause_over(&s->pause, event->step)) s->line_ended = true;
        if (lines_pause_steps(&s->pause, event->step) >= LINES_PAUSE_STEPS) return write_cue(s, INT64_MAX);
        return SUR_OK;
    case SUR_EVENT_GROUP:
        return join(s, event->text, event->t1) ? SUR_OK : add_text(s, event->text, event->t0, event->t1);
    case SUR_EVENT_SKIP:
        return on_skip(s, event);
    case SUR_EVENT_END:
        return write_cue(s, INT64_MAX);
    }
    return SUR_OK;
}

static int on_rest(struct sink *sink)
{
    return write_cue((struct subtitle_sink *)sink, INT64_MAX);
}

static int on_start_vtt(struct sink *sink, const struct sink_start *start)
{
    output_append(sink->out, "WEBVTT\n\n", 8);
    return output_flush(sink->out);
}

const struct sink_class sink_srt = {
    .name = "srt", .size = sizeof(struct subtitle_sink), .event = on_event, .rest = on_rest};
const struct sink_class sink_vtt = {
    .name = "vtt", .size = sizeof(struct subtitle_sink), .start = on_start_vtt, .event = on_event, .rest = on_rest};
