/* Shared by the implementations of a source: names, refusals, the ffmpeg command of messages. */
#include "input/source.h"

#include <stdio.h>
#include <string.h>

#include "util/failure.h"
#include "util/utf8.h"

void source_set_name(struct source *source, const char *name)
{
    sur_utf8_clean(source->name, sizeof source->name, name, strlen(name));
}

/* Quotes path as one word for a shell. Returns false if it is too long, or a message would not show it unchanged. */
static bool quote(char *to, size_t room, const char *path)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=,@%+-";
    char clean[200];
    size_t n = strlen(path), at = 0;
    if (n + 1 > sizeof clean) return false;
    sur_utf8_clean(clean, sizeof clean, path, n);
    if (strcmp(clean, path) != 0 || 4 * n + 5 > room) return false;
    bool quoted = path[strspn(path, plain)] != 0;
    if (path[0] == '-') at += (size_t)sprintf(to, "./"); /* not an option */
    if (quoted) to[at++] = '\'';
    for (; *path; path++) {
        if (*path == '\'')
            at += (size_t)sprintf(to + at, "'\\''");
        else
            to[at++] = *path;
    }
    if (quoted) to[at++] = '\'';
    to[at] = 0;
    return true;
}

struct source_command source_ffmpeg(const char *path)
{
    struct source_command c;
    char word[sizeof c.line - 64];
    if (!path || !quote(word, sizeof word, path)) strcpy(word, "FILE");
    snprintf(c.line, sizeof c.line, "ffmpeg -loglevel error -i %s -f wav - | surtitle -", word);
    return c;
}

int source_refuse(struct source *source, struct kind kind, bool from_file, const char *path)
{
    if (kind.class == KIND_NO_SOUND) return failure(SOURCE_FAILED, "%s is %s, not sound", source->name, kind.name);
    if (from_file)
        return failure(SOURCE_FAILED, "%s is %s, which ffmpeg reads: %s", source->name, kind.name,
                       source_ffmpeg(path).line);
    if (kind.class == KIND_SEEKABLE)
        return failure(SOURCE_FAILED, "%s is %s, which is not read from a pipe; save it, then: %s", source->name,
                       kind.name, source_ffmpeg(NULL).line);
    return failure(
        SOURCE_FAILED,
        "%s is %s, which is not read from a pipe; put this before it: ffmpeg -loglevel error -i - -f wav - |",
        source->name, kind.name);
}
