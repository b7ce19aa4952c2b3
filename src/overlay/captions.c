#include "overlay/captions.h"

#include <string.h>

#include "sink/sink.h"
#include "util/utf8.h"

enum { SILENCE_STEPS = 50 /* 4 s */ };

void captions_init(struct captions *c, int width, int rows)
{
    memset(c, 0, sizeof *c);
    c->width = width < 1 ? 1 : width;
    c->rows = rows < 1 ? 1 : rows > CAPTIONS_ROWS ? CAPTIONS_ROWS : rows;
}

static bool clear(struct captions *c)
{
    bool any = c->any;
    memset(c->row, 0, sizeof c->row);
    c->whole = c->any = false;
    lines_pause_reset(&c->pause);
    return any;
}

static char *growing(struct captions *c)
{
    return c->row[c->rows - 1];
}

static void roll(struct captions *c)
{
    c->whole = false;
    if (!growing(c)[0]) return;
    memmove(c->row[0], c->row[1], (size_t)(c->rows - 1) * sizeof c->row[0]);
    growing(c)[0] = 0;
}

static void show_word(struct captions *c, const char *word)
{
    if (c->whole || sur_utf8_width(growing(c)) + sur_utf8_width(word) > c->width) roll(c);
    if (!growing(c)[0]) word += strspn(word, " ");
    while (sur_utf8_width(word) > c->width) { /* wider than a row: broken where it must be */
        size_t next, n = lines_fit(word, c->width, &next);
        if (!word[next]) break;
        memcpy(growing(c), word, n);
        growing(c)[n] = 0;
        roll(c);
        word += next;
    }
    size_t used = strlen(growing(c));
    strncat(growing(c), word, sizeof c->row[0] - used - 1);
    c->any = true;
}

static bool show_words(struct captions *c, bool all)
{
    char word[LINES_HELD];
    bool any = false;
    while (lines_words_take(&c->words, all, word)) {
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
        for (const char *at = old.row[i]; *at;) {
            size_t next, n = lines_fit(at, c->width, &next);
            roll(c);
            memcpy(growing(c), at, n);
            growing(c)[n] = 0;
            at += next;
        }
        c->any = true;
    }
    c->whole = old.whole;
}

static bool on_token(struct captions *c, const struct sur_event *event, int64_t now_ns)
{
    bool changed = false;
    if (event->text[0]) {
        if (event->text[0] == ' ') changed = show_words(c, true); /* the word before is whole */
        if (!lines_words_add(&c->words, event->text)) {
            changed = show_words(c, true) || changed;
            c->words.n = 0; /* blanks without end */
            lines_words_add(&c->words, event->text);
        }
        lines_pause_text(&c->pause, event->step, event->text);
        c->last_text_ns = now_ns;
    }
    changed = show_words(c, event->special) || changed;
    if (event->text[0]) return changed;
    if (lines_pause_over(&c->pause, event->step)) c->whole = true;
    if (lines_pause_steps(&c->pause, event->step) >= SILENCE_STEPS) changed = clear(c) || changed;
    return changed;
}

bool captions_event(struct captions *c, const struct sur_event *event, int64_t now_ns)
{
    char skipped[SINK_SKIPPED_BYTES];
    switch (event->type) {
    case SUR_EVENT_TOKEN:
        return on_token(c, event, now_ns);
    case SUR_EVENT_GROUP: /* its text came with its tokens */
        return false;
    case SUR_EVENT_SKIP:
        show_words(c, true);
        sink_say_skipped(skipped, event);
        c->whole = true;
        show_word(c, skipped);
        c->whole = true;
        c->last_text_ns = now_ns;
        return true;
    case SUR_EVENT_END: /* what was said last stays its time */
        return show_words(c, true);
    }
    return false;
}

int64_t captions_due_ns(const struct captions *c)
{
    return c->any ? c->last_text_ns + CAPTIONS_HOLD_NS : INT64_MAX;
}

bool captions_tick(struct captions *c, int64_t now_ns)
{
    return now_ns >= captions_due_ns(c) && clear(c);
}
