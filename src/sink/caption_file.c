/* A file that always holds the caption on screen: two rows that roll up, empty after silence.
 *
 * Whoever reads it sees one caption or the next, never half of one: it is written beside itself and renamed over. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sink/lines.h"
#include "sink/os_file.h"
#include "sink/sink.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/utf8.h"

enum { SILENCE_STEPS = 50 /* 4 s */ };
#define SILENCE_NS 4000000000LL

struct caption_sink {
    struct sink base;
    struct os_file file;      /* .path: links are followed, because the file is replaced, not a link to it */
    struct lines_words words; /* the beginning of a word: shown when it is whole, so that it never jumps */
    struct lines_pause pause;
    bool whole; /* the lower row has ended: the next word begins another */
    bool changed;
    bool failing; /* the file could not be written last time, and that was said */
    char upper[LINES_HELD], lower[LINES_HELD];
    int64_t last_text_ns; /* for an input that stands still, when no step tells the time */
};

/* For a handler that ends the program: the caption file, as long as its sink lives, and what is written beside it. */
static _Atomic(const char *) on_screen;
static char beside[PATH_MAX];
static atomic_bool has_beside;

void sink_caption_file_abandon(void)
{
    const char *path = on_screen;
    int error = errno, fd = path ? open(path, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
    if (fd >= 0) close(fd);
    if (has_beside) unlink(beside);
    errno = error;
}

static int fail(const struct caption_sink *s)
{
    const char *why = strerror(errno);
    if (errno == EACCES || errno == EPERM || errno == EROFS)
        return sur_fail(SUR_ERR_IO, "cannot replace %s, which needs a folder that can be written to: %s", s->file.path,
                        why);
    return sur_fail(SUR_ERR_IO, "cannot write %s: %s", s->file.path, why);
}

/* Creates a file with a name of its own in the caption file's folder: any name of the caption file leaves room for it.
 * O_EXCL never follows a link that somebody laid there. Where there is no file to replace, the umask gives the mode. */
static int create_beside(const struct caption_sink *s)
{
    int folder = (int)(strrchr(s->file.path, '/') - s->file.path), fd = -1;
    for (int tries = 0; tries < 100; tries++) {
        uint32_t number = (uint32_t)sur_clock_ns() ^ (uint32_t)getpid() << 16;
        if (snprintf(beside, sizeof beside, "%.*s/.surtitle-%08x", folder, s->file.path, number) >=
            (int)sizeof beside) {
            errno = ENAMETOOLONG;
            return -1;
        }
        fd = open(beside, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, s->file.kind == OS_FILE_EXISTS ? 0600 : 0666);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return fd;
}

static int replace(struct caption_sink *s)
{
    char text[2 * LINES_HELD];
    int n =
        snprintf(text, sizeof text, "%s%s%s%s", s->upper, s->upper[0] ? "\n" : "", s->lower, s->lower[0] ? "\n" : "");
    has_beside = true;
    int fd = create_beside(s), status = SUR_OK;
    if (fd < 0) {
        has_beside = false;
        return fail(s);
    }
    if (s->file.kind == OS_FILE_EXISTS && fchmod(fd, s->file.mode & 0777) != 0) status = fail(s);
    if (status == SUR_OK && output_write_all(fd, text, (size_t)n) != 0) status = fail(s);
    if (close(fd) != 0 && errno != EINTR && status == SUR_OK) status = fail(s);
    if (status == SUR_OK && rename(beside, s->file.path) != 0) status = fail(s);
    if (status != SUR_OK) unlink(beside);
    has_beside = false;
    return status;
}

/* What cannot be written now (a full disk, a folder that was moved) is tried again at every event and tick; only the
 * first failure in a row is returned. */
static int publish(struct caption_sink *s)
{
    int status = replace(s);
    bool said = s->failing;
    s->changed = s->failing = status != SUR_OK;
    return said ? SUR_OK : status;
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
    if (on_screen && s->changed) publish(s); /* stopped early: a caption must not stand for ever */
    on_screen = NULL;
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
    os_file_find(&s->file, path);
    if (s->file.kind == OS_FILE_UNKNOWN)
        status = sur_fail(SUR_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    else if (s->file.kind == OS_FILE_EXISTS && !S_ISREG(s->file.mode))
        status = sur_fail(SUR_ERR_IO, "cannot write %s: it is not a regular file, which --caption-file replaces", path);
    else if (s->file.descriptor >= 0)
        status = sur_fail(SUR_ERR_IO, "cannot write %s: a descriptor has no name by which it could be replaced", path);
    else if (s->file.foreign_link)
        status =
            sur_fail(SUR_ERR_IO, "cannot write %s: it is another user's link, in a folder that all may write to", path);
    else
        status = publish(s);
    if (status != SUR_OK)
        sink_destroy(sink);
    else
        on_screen = s->file.path;
    return status;
}
