/* A file that always holds the caption on screen: two rows that roll up, empty after silence.
 *
 * Whoever reads it sees one caption or the next, never half of one: it is written beside itself and renamed over. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sink/lines.h"
#include "sink/sink.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/utf8.h"

enum { SILENCE_STEPS = 50 /* 4 s */ };
#define SILENCE_NS 4000000000LL

struct caption_sink {
    struct sink base;
    char *path; /* with links resolved: the file is replaced, not a link to it */
    mode_t mode;
    struct lines_words words; /* the beginning of a word: shown when it is whole, so that it never jumps */
    struct lines_pause pause;
    bool whole; /* the lower row has ended: the next word begins another */
    bool changed;
    char upper[LINES_HELD], lower[LINES_HELD];
    int64_t last_text_ns; /* for an input that stands still, when no step tells the time */
};

static _Atomic(const char *) on_screen; /* the file, as long as its sink lives: for a handler that ends the program */

void sink_caption_file_abandon(void)
{
    const char *path = on_screen;
    int error = errno, fd = path ? open(path, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC) : -1;
    if (fd >= 0) close(fd);
    errno = error;
}

static int fail(const struct caption_sink *s)
{
    return sur_fail(SUR_ERR_IO, "cannot write %s: %s", s->path, strerror(errno));
}

static int publish(struct caption_sink *s)
{
    char beside[PATH_MAX], text[2 * LINES_HELD];
    int n =
        snprintf(text, sizeof text, "%s%s%s%s", s->upper, s->upper[0] ? "\n" : "", s->lower, s->lower[0] ? "\n" : "");
    s->changed = false;
    if (snprintf(beside, sizeof beside, "%s.XXXXXX", s->path) >= (int)sizeof beside) {
        errno = ENAMETOOLONG;
        return fail(s);
    }
    int fd = mkostemp(beside, O_CLOEXEC); /* O_EXCL: never through a link that somebody laid there */
    if (fd < 0) return fail(s);
    int status = fchmod(fd, s->mode) == 0 && output_write_all(fd, text, (size_t)n) == 0 ? SUR_OK : fail(s);
    if (close(fd) != 0 && errno != EINTR && status == SUR_OK) status = fail(s);
    if (status == SUR_OK && rename(beside, s->path) != 0) status = fail(s);
    if (status != SUR_OK) unlink(beside);
    return status;
}

static void clear(struct caption_sink *s)
{
    s->changed = s->changed || s->upper[0] || s->lower[0];
    s->upper[0] = s->lower[0] = 0;
    s->whole = false;
    lines_pause_reset(&s->pause);
}

static void roll(struct caption_sink *s)
{
    if (s->lower[0]) memcpy(s->upper, s->lower, sizeof s->upper);
    s->lower[0] = 0;
    s->whole = false;
}

static void show_word(struct caption_sink *s, const char *word)
{
    int width = s->base.options.width > 0 ? s->base.options.width : SINK_CUE_WIDTH;
    if (s->whole || sur_utf8_width(s->lower) + sur_utf8_width(word) > width) roll(s);
    if (!s->lower[0]) word += strspn(word, " ");
    while (sur_utf8_width(word) > width) { /* wider than a row: broken where it must be */
        size_t next, n = lines_fit(word, width, &next);
        memcpy(s->lower, word, n);
        s->lower[n] = 0;
        roll(s);
        word += next;
    }
    strncat(s->lower, word, sizeof s->lower - strlen(s->lower) - 1);
    s->changed = true;
}

static void show_words(struct caption_sink *s, bool all)
{
    char word[LINES_HELD];
    while (lines_words_take(&s->words, all, word)) show_word(s, word);
}

static void on_token(struct caption_sink *s, const struct sur_event *event)
{
    if (event->text[0]) {
        if (!lines_words_add(&s->words, event->text)) {
            show_words(s, true);
            s->words.n = 0;
            lines_words_add(&s->words, event->text);
        }
        lines_pause_text(&s->pause, event->step, event->text);
        s->last_text_ns = sur_clock_ns();
    }
    show_words(s, event->special);
    if (event->text[0]) return;
    if (lines_pause_over(&s->pause, event->step)) s->whole = true;
    if (lines_pause_steps(&s->pause, event->step) >= SILENCE_STEPS) clear(s);
}

static int on_event(struct sink *sink, const struct sur_event *event)
{
    struct caption_sink *s = (struct caption_sink *)sink;
    char skipped[SINK_SKIPPED_BYTES];
    switch (event->type) {
    case SUR_EVENT_TOKEN:
        on_token(s, event);
        break;
    case SUR_EVENT_GROUP:
        break;
    case SUR_EVENT_SKIP:
        show_words(s, true);
        sink_say_skipped(skipped, event);
        s->whole = true;
        show_word(s, skipped);
        s->whole = true;
        s->last_text_ns = sur_clock_ns();
        break;
    case SUR_EVENT_END:
        clear(s);
        break;
    }
    return s->changed ? publish(s) : SUR_OK;
}

static int on_tick(struct sink *sink, int64_t now_ns)
{
    struct caption_sink *s = (struct caption_sink *)sink;
    if (now_ns - s->last_text_ns >= SILENCE_NS) clear(s);
    return s->changed ? publish(s) : SUR_OK;
}

static void on_destroy(struct sink *sink)
{
    struct caption_sink *s = (struct caption_sink *)sink;
    clear(s);
    if (s->path && s->changed) publish(s); /* stopped early: a caption must not stand for ever */
    on_screen = NULL;
    free(s->path);
}

static const struct sink_class sink_caption_file = {.name = "caption file",
                                                    .size = sizeof(struct caption_sink),
                                                    .event = on_event,
                                                    .tick = on_tick,
                                                    .destroy = on_destroy};

int sink_create_caption_file(struct sink **sink, const char *path, const struct sink_options *options)
{
    int status = sink_allocate(sink, &sink_caption_file, NULL, options);
    if (status != SUR_OK) return status;
    struct caption_sink *s = (struct caption_sink *)*sink;
    struct stat is;
    s->path = realpath(path, NULL);
    bool exists = s->path && stat(s->path, &is) == 0;
    if (!s->path) s->path = strdup(path);
    if (!s->path) {
        status = sur_fail(SUR_ERR_MEMORY, "not enough memory for the caption file");
    } else if (exists && !S_ISREG(is.st_mode)) {
        status = sur_fail(SUR_ERR_IO, "cannot write %s: it is not a regular file, which --caption-file replaces", path);
    } else if (exists) {
        s->mode = is.st_mode & 07777;
    } else {
        mode_t mask = umask(0);
        umask(mask);
        s->mode = 0666 & ~mask;
    }
    if (status == SUR_OK) status = publish(s);
    if (status != SUR_OK)
        sink_destroy(sink);
    else
        on_screen = s->path;
    return status;
}
