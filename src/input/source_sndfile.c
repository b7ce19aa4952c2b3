#include "input/source.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sndfile.h>

#include "input/source_parts.h"
#include "surtitle.h"
#include "util/failure.h"

struct audio_file {
    SNDFILE *file; /* of the current part; NULL: none is open */
    int fd;
    int64_t size; /* of the file, when it was opened */
    struct parts parts;
    int part;
    int64_t at;              /* libsndfile's position in the part, bytes */
    int64_t given, promised; /* frames of the part: returned; according to its header, 0 if that is not reliable */
    int64_t before;          /* frames of the parts before it */
    bool failed;             /* a part was not read to its end */
    char why[512];           /* its line, kept while the parts after it are read */
    char path[256];          /* for the command in a message; "": too long */
};

/* ---- one part, as a file for libsndfile ---- */

static const struct part *part(const struct audio_file *a)
{
    return &a->parts.part[a->part];
}

static sf_count_t part_length(void *user)
{
    return part(user)->end - part(user)->begin;
}

static sf_count_t part_seek(sf_count_t offset, int whence, void *user)
{
    struct audio_file *a = user;
    int64_t from = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? a->at : part_length(a);
    if (from + offset < 0) return -1;
    a->at = from + offset;
    return a->at;
}

static sf_count_t part_read(void *to, sf_count_t count, void *user)
{
    struct audio_file *a = user;
    int64_t left = part_length(a) - a->at, done = 0;
    if (count > left) count = left;
    while (done < count) {
        ssize_t n = pread(a->fd, (char *)to + done, (size_t)(count - done), part(a)->begin + a->at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += n;
        a->at += n;
    }
    return done;
}

static sf_count_t part_write(const void *from, sf_count_t count, void *user)
{
    return 0;
}

static sf_count_t part_tell(void *user)
{
    return ((struct audio_file *)user)->at;
}

static SNDFILE *open_part(struct audio_file *a, SF_INFO *info)
{
    static SF_VIRTUAL_IO io = {part_length, part_seek, part_read, part_write, part_tell};
    *info = (SF_INFO){0};
    a->at = a->given = a->promised = 0;
    a->file = sf_open_virtual(&io, SFM_READ, info, a);
    bool exact = a->file && (info->format & SF_FORMAT_TYPEMASK) == SF_FORMAT_FLAC && info->frames < SF_COUNT_MAX;
    if (exact) a->promised = info->frames;
    return a->file;
}

/* ---- reading ---- */

static double seconds(const struct source *source, int64_t frames)
{
    return (double)frames / source->rate;
}

static int not_read(struct source *source, const struct audio_file *a, const char *what)
{
    return failure(SOURCE_FAILED, "%s continues after %.1f s with %s, which is not read: %s", source->name,
                   seconds(source, a->before), what, source_ffmpeg(a->path[0] ? a->path : NULL).line);
}

/* Opens the next part. Returns SOURCE_OK or SOURCE_FAILED. */
static int next_part(struct source *source, struct audio_file *a)
{
    SF_INFO info;
    char what[80];
    sf_close(a->file);
    a->before += a->given;
    a->part++;
    if (!open_part(a, &info)) return not_read(source, a, "something else");
    if (info.samplerate == source->rate && info.channels == source->channels) return SOURCE_OK;
    snprintf(what, sizeof what, "a part of %d Hz, channels: %d, instead of %d Hz, channels: %d", info.samplerate,
             info.channels, source->rate, source->channels);
    sf_close(a->file);
    a->file = NULL;
    return not_read(source, a, what);
}

/* libsndfile reports the end of the part. Returns SOURCE_OK, or SOURCE_FAILED if the part is not whole. libsndfile
 * reports no error at the end of a truncated FLAC. For other formats its length is an estimate or the size of the file,
 * so the structure of the file decides (source_parts.h). */
static int end_part(struct source *source, struct audio_file *a)
{
    struct stat is;
    int64_t all = a->before + a->given;
    bool last = a->part + 1 == a->parts.n;
    if (sf_error(a->file) != SF_ERR_NO_ERROR)
        return failure(SOURCE_FAILED, "cannot read %s: %s", source->name, sf_strerror(a->file));
    if (last && fstat(a->fd, &is) == 0 && is.st_size > a->size)
        return failure(SOURCE_FAILED, "%s was still being written; it is read up to %.1f s", source->name,
                       seconds(source, all));
    if (a->given < a->promised)
        return failure(SOURCE_FAILED, "%s is cut or damaged: it ends after %.1f s of %.1f", source->name,
                       seconds(source, all), seconds(source, a->before + a->promised));
    if (last ? a->parts.cut : part(a)->cut)
        return failure(SOURCE_FAILED, "%s is cut or damaged: it ends after %.1f s, before its own end", source->name,
                       seconds(source, all));
    if (last && all == 0) return failure(SOURCE_FAILED, "%s holds no sample", source->name);
    if (a->parts.trailing == 0) return SOURCE_OK;
    a->before = all;
    return not_read(source, a, a->parts.trailing_name ? a->parts.trailing_name : "more than its header says");
}

static void note_failure(struct audio_file *a)
{
    a->failed = true;
    snprintf(a->why, sizeof a->why, "%s", failure_text());
}

static ptrdiff_t file_read(struct source *source, float *frames, size_t max_frames)
{
    struct audio_file *a = source->state;
    while (max_frames > 0 && a->file) {
        sf_count_t n = sf_readf_float(a->file, frames, (sf_count_t)max_frames);
        for (sf_count_t i = 0; i < n * source->channels; i++)
            if (!isfinite(frames[i])) frames[i] = 0;
        if (n > 0) a->given += n;
        if (n > 0) return (ptrdiff_t)n;
        if (!a->failed && end_part(source, a) != SOURCE_OK) note_failure(a);
        if (a->part + 1 == a->parts.n) break;
        if (next_part(source, a) != SOURCE_OK) note_failure(a);
    }
    return a->failed && max_frames > 0 ? failure(SOURCE_FAILED, "%s", a->why) : 0;
}

static void file_close(struct source *source)
{
    struct audio_file *a = source->state;
    if (a && a->file) sf_close(a->file);
    if (a) parts_free(&a->parts);
    if (a) close(a->fd);
    free(a);
    source->state = NULL;
    source->close = NULL;
}

/* ---- opening ---- */

/* libsndfile cannot open the file: says why, and what helps. */
static int not_opened(struct source *source, const char *path, struct kind kind, bool cut)
{
    const char *why = sf_strerror(NULL);
    int n = (int)strlen(why);
    if (n > 0 && why[n - 1] == '.') n--;
    if (kind.name && cut)
        return failure(SOURCE_FAILED, "%s is cut or damaged: nothing of it can be read (%.*s)", source->name, n, why);
    if (kind.name)
        return failure(SOURCE_FAILED, "%s is %s that libsndfile does not read (%.*s); ffmpeg may: %s", source->name,
                       kind.name, n, why, source_ffmpeg(path).line);
    return failure(SOURCE_FAILED, "%s is not audio that can be read: %.*s (raw samples need --pcm)", source->name, n,
                   why);
}

int source_sndfile_open(struct source *source, int fd, const char *path, struct kind kind)
{
    struct audio_file *a = calloc(1, sizeof *a);
    struct stat is;
    SF_INFO info = {0};
    source->state = a;
    source->close = file_close;
    if (a) a->fd = fd;
    if (!a) close(fd);
    if (!a || fstat(fd, &is) < 0 || parts_find(&a->parts, fd, is.st_size, kind) < 0) {
        failure(SOURCE_FAILED, "not enough memory to read %s", source->name);
        goto fail;
    }
    a->size = is.st_size;
    if (path && strlen(path) < sizeof a->path) strcpy(a->path, path);
    if (!open_part(a, &info)) {
        not_opened(source, path, kind, a->parts.cut);
        goto fail;
    }
    if (info.channels < 1 || info.channels > SUR_CHANNELS_MAX) {
        failure(SOURCE_FAILED, "%s has %d channels; 1 to %d are supported", source->name, info.channels,
                SUR_CHANNELS_MAX);
        goto fail;
    }
    if (info.samplerate < SUR_RATE_MIN || info.samplerate > SUR_RATE_MAX) {
        failure(SOURCE_FAILED, "%s has %d Hz; %d to %d are supported", source->name, info.samplerate, SUR_RATE_MIN,
                SUR_RATE_MAX);
        goto fail;
    }
    source->rate = info.samplerate;
    source->channels = info.channels;
    source->read = file_read;
    return SOURCE_OK;
fail:
    file_close(source);
    return SOURCE_FAILED;
}
