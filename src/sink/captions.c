#include "sink/captions.h"

#include <string.h>

#include "sink/sink.h"
#include "util/utf8.h"

enum { HOLD_STEPS = CAPTIONS_HOLD_S * SUR_RATE / SUR_TOKEN_SAMPLES };
#define HOLD_NS (CAPTIONS_HOLD_S * 1000000000LL)

void captions_init(struct captions *c, int width, int rows)
{
    memset(c, 0, sizeof *c);
    c->width = width < 1 ? 1 : width;
    c->rows = rows < 1 ? 1 : rows > CAPTIONS_ROWS ? CAPTIONS_ROWS : rows;
}

bool captions_clear(struct captions *c)
{
    bool any = c->any;
    memset(c->row, 0, sizeof c->row);
    c->row_ended = c->any = false;
    lines_pause_reset(&c->pause);
    return any;
}

static char *growing(struct captions *c)
{
    return c->row[c->rows - 1];
}

static void roll(struct captions *c)
{
    c->row_ended = false;
    if (!growing(c)[0]) return;
    memmove(c->row[0], c->row[1], (size_t)(c->rows - 1) * sizeof c->row[0]);
    growing(c)[0] = 0;
}

static void set_growing(struct captions *c, const char *text, size_t n)
{
    memcpy(growing(c), text, n);
    growing(c)[n] = 0;
}

static void show_word(struct captions *c, const char *word)
{
    if (c->row_ended || sur_utf8_width(growing(c)) + sur_utf8_width(word) > c->width) roll(c);
    if (!growing(c)[0]) word += strspn(word, " ");
    for (size_t next, n; (n = lines_cut_word(word, c->width, &next)) > 0; word += next) {
        set_growing(c, word, n);
        roll(c);
    }
    size_t used = strlen(growing(c));
    strncat(growing(c), word, sizeof c->row[0] - used - 1);
    c->any = true;
}

static bool show_words(struct captions *c, bool all)
{
    char word[LINES_HELD];
    bool any = false;
    while (lines_words_pop(&c->words, all, word)) {
        show_word(c, word);
        any = true;
    }
    return any;
}

void captions_resize(struct captions *c, int width, int rows)
{
    struct captions old = *c;
    captions_init(c, width, rows);
    c->words = old.words;
    c->pause = old.pause;
    c->last_text_ns = old.last_text_ns;
    for (int i = 0; i < old.rows; i++) {
        if (!old.row[i][0]) continue;
        for (size_t next, at = 0; old.row[i][at]; at += next) {
            size_t n = lines_fit(old.row[i] + at, c->width, &next);
            roll(c);
            set_growing(c, old.row[i] + at, n);
        }
        c->any = true;
    }
    c->row_ended = old.row_ended;
}

static bool on_token(struct captions *c, const struct sur_event *event, int64_t now_ns)
{
    bool changed = false;
    if (event->text[0]) {
        if (!lines_words_add(&c->words, event->text)) {
            changed = show_words(c, true);
            c->words.n = 0; /* the rest are blanks */
            lines_words_add(&c->words, event->text);
        }
        lines_pause_add(&c->pause, event->step, event->text);
        c->last_text_ns = now_ns;
    }
    changed = show_words(c, event->special) || changed;
    if (event->text[0]) return changed;
    if (lines_pause_over(&c->pause, event->step)) c->row_ended = true;
    if (lines_pause_steps(&c->pause, event->step) >= HOLD_STEPS) changed = captions_clear(c) || changed;
    return changed;
}

bool captions_event(struct captions *c, const struct sur_event *event, int64_t now_ns)
{
    char skipped[SINK_SKIPPED_BYTES];
    switch (event->type) {
    case SUR_EVENT_TOKEN:
        return on_token(c, event, now_ns);
    case SUR_EVENT_GROUP: /* its text was in its tokens */
        return false;
    case SUR_EVENT_SKIP:
        show_words(c, true);
        sink_format_skipped(skipped, event);
        c->row_ended = true;
        show_word(c, skipped);
        c->row_ended = true;
        c->last_text_ns = now_ns;
        return true;
    case SUR_EVENT_END: /* the last words stay for CAPTIONS_HOLD_S, too */
        return show_words(c, true);
    }
    return false;
}

int64_t captions_due_ns(const struct captions *c)
{
    return c->any ? c->last_text_ns + HOLD_NS : INT64_MAX;
}

bool captions_tick(struct captions *c, int64_t now_ns)
{
    return now_ns >= captions_due_ns(c) && captions_clear(c);
}
