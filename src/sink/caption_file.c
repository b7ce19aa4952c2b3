/* A file that always holds the captions on screen: two rows that roll up (sink/captions.h).
 *
 * The new captions are written to a temporary file, which is then renamed over the caption file, so that a reader never
 * sees a part of them. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sink/captions.h"
#include "sink/sink.h"
#include "util/clock.h"
#include "util/failure.h"
#include "util/os_file.h"

enum { ROWS = 2 };

struct caption_sink {
    struct sink base;
    struct os_file file; /* .path: without links, because rename(2) would replace a link and not its target */
    struct captions captions;
    bool changed; /* the file does not hold the captions yet */
    bool failing; /* the last write failed, and that was reported */
};

/* For sink_caption_file_abandon: the caption file while its sink exists, and the temporary file while it exists. */
static _Atomic(const char *) caption_path;
static char temporary[PATH_MAX];
static atomic_bool has_temporary;

void sink_caption_file_abandon(void)
{
    const char *path = caption_path;
    int error = errno, fd = path ? open(path, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
    if (fd >= 0) close(fd);
    if (has_temporary) unlink(temporary);
    errno = error;
}

static int fail(const struct caption_sink *s)
{
    const char *why = strerror(errno);
    if (errno == EACCES || errno == EPERM || errno == EROFS)
        return failure(SUR_ERR_IO, "cannot replace %s, which needs a writable folder: %s", s->file.path, why);
    return failure(SUR_ERR_IO, "cannot write %s: %s", s->file.path, why);
}

static int replace(struct caption_sink *s)
{
    char text[ROWS * LINES_HELD];
    size_t n = 0;
    for (int i = 0; i < ROWS; i++) {
        const char *row = s->captions.row[i];
        if (row[0]) n += (size_t)snprintf(text + n, sizeof text - n, "%s\n", row);
    }
    has_temporary = true;
    const bool exists = s->file.kind == OS_FILE_EXISTS; /* otherwise the umask decides the mode */
    int fd = os_file_create_temporary(&s->file, exists ? 0600 : 0666, temporary), status = SUR_OK;
    if (fd < 0) {
        has_temporary = false;
        return fail(s);
    }
    if (exists && fchmod(fd, s->file.mode & 0777) != 0) status = fail(s);
    if (status == SUR_OK && output_write_all(fd, text, n) != 0) status = fail(s);
    if (close(fd) != 0 && errno != EINTR && status == SUR_OK) status = fail(s);
    if (status == SUR_OK && rename(temporary, s->file.path) != 0) status = fail(s);
    if (status != SUR_OK) unlink(temporary);
    has_temporary = false;
    return status;
}

/* After a failure (full disk, folder moved) every event and tick tries again. Only the first of several failures in a
 * row is returned. */
static int publish(struct caption_sink *s)
{
    int status = replace(s);
    bool reported = s->failing;
    s->changed = s->failing = status != SUR_OK;
    return reported ? SUR_OK : status;
}

static int on_event(struct sink *sink, const struct sur_event *event)
{
    struct caption_sink *s = (struct caption_sink *)sink;
    bool changed = event->type == SUR_EVENT_END ? captions_clear(&s->captions)
                                                : captions_event(&s->captions, event, sur_clock_ns());
    s->changed = s->changed || changed;
    return s->changed ? publish(s) : SUR_OK;
}

static int on_tick(struct sink *sink, int64_t now_ns)
{
    struct caption_sink *s = (struct caption_sink *)sink;
    s->changed = captions_tick(&s->captions, now_ns) || s->changed;
    return s->changed ? publish(s) : SUR_OK;
}

static void on_destroy(struct sink *sink)
{
    struct caption_sink *s = (struct caption_sink *)sink;
    s->changed = captions_clear(&s->captions) || s->changed;
    if (caption_path && s->changed) publish(s); /* the program stops before the end: no caption may stay */
    caption_path = NULL;
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
    captions_init(&s->captions, options->width > 0 ? options->width : SINK_CUE_WIDTH, ROWS);
    os_file_find(&s->file, path);
    if (s->file.kind == OS_FILE_UNKNOWN)
        status = failure(SUR_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    else if (s->file.kind == OS_FILE_EXISTS && !S_ISREG(s->file.mode))
        status = failure(SUR_ERR_IO, "cannot write %s: it is not a regular file, which --caption-file needs", path);
    else if (s->file.descriptor >= 0)
        status = failure(SUR_ERR_IO, "cannot write %s: it is a descriptor, which cannot be replaced", path);
    else if (s->file.foreign_link)
        status = failure(SUR_ERR_IO,
                         "cannot write %s: it is another user's link, in a folder that all users may write to", path);
    else
        status = publish(s);
    if (status != SUR_OK)
        sink_destroy(sink);
    else
        caption_path = s->file.path;
    return status;
}
