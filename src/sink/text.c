/* text: words as they arrive, flushed at once and never rewritten. Lines are wrapped on terminals only, unless a width
 * is given. */
#include <string.h>

#include "sink/lines.h"
#include "sink/sink.h"
#include "util/utf8.h"

enum { TIME_COLUMNS = 15 /* "[00:00:00.000] " */, LEAST_COLUMNS = 10 };

struct text_sink {
    struct sink base;
    struct lines_words words; /* not written yet: the beginning of a word, when lines are wrapped */
    int64_t word_t0;          /* of the word's group, as known when the word began */
    int64_t line_t0;          /* of the last line with a time */
    struct lines_pause pause;
    bool open; /* there is text on the line */
    int column;
};

static int width_of(const struct text_sink *s)
{
    int least = LEAST_COLUMNS + (s->base.options.timestamps ? TIME_COLUMNS : 0);
    return s->base.options.width > 0 && s->base.options.width < least ? least : s->base.options.width;
}

/* t0 of a group decreases while the group grows, but the times of lines never decrease. */
static void append_time(struct text_sink *s, int64_t t0)
{
    if (!s->base.options.timestamps) return;
    if (t0 < s->line_t0) t0 = s->line_t0;
    s->line_t0 = t0;
    output_append(s->base.out, "[", 1);
    sink_append_time(s->base.out, t0, '.');
    output_append(s->base.out, "] ", 2);
    s->column = TIME_COLUMNS;
}

static void end_line(struct text_sink *s)
{
    if (s->open) output_append(s->base.out, "\n", 1);
    s->open = false;
    s->column = 0;
    lines_pause_reset(&s->pause);
}

static void open_line(struct text_sink *s)
{
    s->column = 0;
    append_time(s, s->word_t0);
    s->open = true;
}

/* Writes a word with the blanks before it. A word that is wider than a line is broken. */
static void append_word(struct text_sink *s, const char *word)
{
    int width = width_of(s);
    struct lines_pause pause = s->pause; /* a line that ends because of its width is not a pause */
    if (s->open && width > 0 && s->column + sur_utf8_width(word) > width) end_line(s);
    if (!s->open) {
        open_line(s);
        word += strspn(word, " ");
    }
    for (size_t next, n; width > 0 && (n = lines_cut_word(word, width - s->column, &next)) > 0; word += next) {
        output_append(s->base.out, word, n);
        end_line(s);
        open_line(s);
    }
    output_append(s->base.out, word, strlen(word));
    s->column += sur_utf8_width(word);
    s->pause = pause;
}

static void append_words(struct text_sink *s, bool all)
{
    char word[LINES_HELD];
    while (lines_words_pop(&s->words, all, word)) append_word(s, word);
}

static void hold(struct text_sink *s, const char *text)
{
    if (lines_words_add(&s->words, text)) return;
    append_words(s, true);
    s->words.n = 0; /* the rest are blanks */
    lines_words_add(&s->words, text);
}

/* Holds "[best|second]", with the leading blanks before the bracket. Returns false if no alternative is shown. */
static bool hold_alternatives(struct text_sink *s, const struct sur_event *event)
{
    bool any = false;
    size_t blanks = strspn(event->text, " ");
    for (int i = 0; i < event->n_alternatives && !event->special && event->text[blanks]; i++) {
        const struct sur_alternative *a = &event->alternatives[i];
        if (!sink_shows_alternative(&s->base.options, a)) continue;
        if (!any) {
            hold(s, blanks ? " [" : "[");
            hold(s, event->text + blanks);
        }
        hold(s, "|");
        hold(s, a->text + strspn(a->text, " "));
        any = true;
    }
    if (any) hold(s, "]");
    return any;
}

static void on_token(struct text_sink *s, const struct sur_event *event)
{
    if (event->text[0]) {
        if (event->text[0] == ' ') append_words(s, true); /* the word before is complete */
        if (strspn(s->words.held, " ") == s->words.n) s->word_t0 = event->t0;
        if (!hold_alternatives(s, event)) hold(s, event->text);
        lines_pause_add(&s->pause, event->step, event->text);
    }
    /* Without wrapping no word has to wait. A pad or a marker ends a word, too. */
    append_words(s, event->special || s->base.options.width == 0);
    if (!event->text[0] && s->open && lines_pause_over(&s->pause, event->step)) end_line(s);
}

static int on_event(struct sink *sink, const struct sur_event *event)
{
    struct text_sink *s = (struct text_sink *)sink;
    char skipped[SINK_SKIPPED_BYTES];
    switch (event->type) {
    case SUR_EVENT_TOKEN:
        on_token(s, event);
        break;
    case SUR_EVENT_GROUP: /* its text was in its tokens */
        break;
    case SUR_EVENT_SKIP:
        append_words(s, true);
        end_line(s);
        append_time(s, event->t0);
        sink_format_skipped(skipped, event);
        output_printf(sink->out, "%s\n", skipped);
        break;
    case SUR_EVENT_END:
        hold(s, event->text); /* a character that was never completed */
        append_words(s, true);
        end_line(s);
        break;
    }
    return sink->out->n > 0 ? output_flush(sink->out) : SUR_OK;
}

const struct sink_class sink_text = {.name = "text", .size = sizeof(struct text_sink), .event = on_event};
