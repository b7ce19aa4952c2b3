#include "input/source.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "input/wav.h"
#include "util/failure.h"

enum { SNIFF_BYTES = 12, BUFFER_BYTES = 65536 };
/* A file that is being written: how often its size is polled, and when it counts as finished although a program has it
 * open. */
enum { LOOK_MS = 50, PATIENCE_MS = 10000 };

enum shape { SHAPE_UNKNOWN, SHAPE_RAW, SHAPE_WAV };

struct stream {
    int fd;
    bool owned;
    bool grows;   /* a regular file that may still be written */
    bool regular; /* a regular file, read from its beginning */
    enum shape shape;
    bool end;      /* no bytes follow */
    bool any;      /* a frame was returned */
    bool drained;  /* the rest of a WAV that failed was read, so that its writer gets no SIGPIPE */
    int waited_ms; /* for a file to grow */
    void (*notice)(const char *line);
    size_t at, filled; /* buffer[at, filled) was read and not used */
    struct pcm_format format;
    struct wav wav;
    uint8_t buffer[BUFFER_BYTES];
};

static const struct pcm_format formats[] = {
    [SOURCE_PCM_S16LE] = {PCM_SIGNED, 2, false}, [SOURCE_PCM_F32LE] = {PCM_FLOAT, 4, false},
    [SOURCE_PCM_U8] = {PCM_UNSIGNED, 1, false},  [SOURCE_PCM_S24LE] = {PCM_SIGNED, 3, false},
    [SOURCE_PCM_S32LE] = {PCM_SIGNED, 4, false}, [SOURCE_PCM_S16BE] = {PCM_SIGNED, 2, true},
    [SOURCE_PCM_MULAW] = {PCM_MULAW, 1, false},  [SOURCE_PCM_ALAW] = {PCM_ALAW, 1, false},
};

/* ---- a file that grows ---- */

/* Whether a program has the file open for writing: then the kernel grants no read lease. It answers only for the user's
 * own files, on some file systems, and not if this descriptor can write (surtitle - <> FILE); otherwise the time of the
 * last change decides. If the lease is broken at this moment, SIGURG comes, which is ignored. */
static bool is_written(int fd)
{
    struct stat is;
    struct timespec now;
    bool reads_only = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY;
    fcntl(fd, F_SETSIG, SIGURG);
    if (reads_only && fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
        fcntl(fd, F_SETLEASE, F_UNLCK);
        return false;
    }
    if (reads_only && errno == EAGAIN) return true;
    clock_gettime(CLOCK_REALTIME, &now);
    return fstat(fd, &is) == 0 && now.tv_sec - is.st_mtim.tv_sec >= 0 && now.tv_sec - is.st_mtim.tv_sec < 2;
}

/* At the end of the file. Returns SOURCE_OK after a wait, 1 if the file is finished, or SOURCE_INTERRUPTED. */
static int wait_for_growth(struct source *source)
{
    struct stream *s = source->state;
    char line[256];
    if (!is_written(s->fd)) return 1;
    if (s->waited_ms >= PATIENCE_MS) {
        snprintf(line, sizeof line,
                 "%s has not grown for %d s: it is read as finished, although a program may still write it",
                 source->name, PATIENCE_MS / 1000);
        if (s->notice) s->notice(line);
        return 1;
    }
    s->waited_ms += LOOK_MS;
    return poll(NULL, 0, LOOK_MS) < 0 && errno == EINTR ? SOURCE_INTERRUPTED : SOURCE_OK;
}

/* Waits for more bytes. Returns SOURCE_OK, also at the end, SOURCE_INTERRUPTED or SOURCE_FAILED. */
static int fill(struct source *source)
{
    struct stream *s = source->state;
    memmove(s->buffer, s->buffer + s->at, s->filled - s->at);
    s->filled -= s->at;
    s->at = 0;
    ssize_t n = read(s->fd, s->buffer + s->filled, sizeof s->buffer - s->filled);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) { /* the descriptor was opened non-blocking */
        struct pollfd p = {.fd = s->fd, .events = POLLIN};
        n = poll(&p, 1, -1);
        if (n >= 0) return SOURCE_OK;
    }
    if (n < 0 && errno == EINTR) return SOURCE_INTERRUPTED;
    if (n < 0) return failure(SOURCE_FAILED, "cannot read %s: %s", source->name, strerror(errno));
    if (n > 0) s->waited_ms = 0;
    s->filled += (size_t)n;
    if (n > 0) return SOURCE_OK;
    int status = s->grows ? wait_for_growth(source) : 1;
    if (status <= 0) return status;
    s->end = true;
    return SOURCE_OK;
}

/* ---- the format ---- */

static int sniff(struct source *source, struct kind *kind)
{
    struct stream *s = source->state;
    for (;;) {
        *kind = kind_of(s->buffer, s->filled, s->end);
        if (s->end || (s->filled >= SNIFF_BYTES && kind->class != KIND_MORE)) return SOURCE_OK;
        int status = fill(source);
        if (status != SOURCE_OK) return status;
    }
}

/* Reads up to the data. */
static int read_wav_header(struct source *source)
{
    struct stream *s = source->state;
    for (;;) {
        size_t used = 0;
        ptrdiff_t r = wav_push(&s->wav, s->buffer + s->at, s->filled - s->at, &used, NULL, 0);
        s->at += used;
        if (r == 0 && s->wav.state >= WAV_DATA) break;
        if (r == 0 && s->end) r = wav_end(&s->wav);
        if (r < 0) return SOURCE_FAILED;
        int status = fill(source);
        if (status != SOURCE_OK) return status;
    }
    source->rate = s->wav.rate;
    source->channels = s->wav.channels;
    return SOURCE_OK;
}

/* ---- samples ---- */

/* Converts whole frames of raw samples in the buffer, at most max; returns how many. */
static size_t convert_raw(struct stream *s, int channels, float *out, size_t max)
{
    size_t frame = (size_t)s->format.bytes * (size_t)channels, n = (s->filled - s->at) / frame;
    if (n > max) n = max;
    pcm_convert(&s->format, s->buffer + s->at, n * (size_t)channels, out);
    s->at += n * frame;
    return n;
}

/* A WAV failed after its first samples: reads the rest, so that its writer can finish. */
static ptrdiff_t wav_failed(struct source *source)
{
    struct stream *s = source->state;
    while (!s->regular && !s->end && !s->drained) {
        s->at = s->filled;
        int status = fill(source);
        if (status == SOURCE_INTERRUPTED) return status;
        if (status == SOURCE_FAILED) break;
    }
    s->drained = true;
    return failure(SOURCE_FAILED, "%s is a WAV, but %s", source->name, s->wav.error);
}

static ptrdiff_t stream_read(struct source *source, float *frames, size_t max_frames)
{
    struct stream *s = source->state;
    for (;;) {
        size_t used = 0;
        ptrdiff_t n;
        if (s->shape == SHAPE_WAV) {
            n = wav_push(&s->wav, s->buffer + s->at, s->filled - s->at, &used, frames,
                         max_frames * (size_t)source->channels);
            s->at += used;
        } else {
            n = (ptrdiff_t)convert_raw(s, source->channels, frames, max_frames);
        }
        if (n > 0) s->any = true;
        if (n > 0) return n;
        if (n < 0) return wav_failed(source);
        if (max_frames == 0) return 0;
        if (s->end && s->shape == SHAPE_WAV && wav_end(&s->wav) < 0 && s->any) return wav_failed(source);
        if (s->end && !s->any) return failure(SOURCE_FAILED, "%s holds no sample", source->name);
        if (s->end) return 0;
        int status = fill(source);
        if (status != SOURCE_OK) return status;
    }
}

static void stream_close(struct source *source)
{
    struct stream *s = source->state;
    if (s && s->owned) close(s->fd);
    free(s);
    source->state = NULL;
    source->close = NULL;
}

/* ---- opening ---- */

static int begin(struct source *source, int fd, bool owned, const char *name)
{
    struct stat is;
    source_set_name(source, name);
    if (isatty(fd)) {
        if (owned) close(fd);
        return failure(SOURCE_FAILED, "%s is a terminal: name a FILE, or send audio through a pipe", source->name);
    }
    struct stream *s = calloc(1, sizeof *s);
    if (!s) {
        if (owned) close(fd);
        return failure(SOURCE_FAILED, "not enough memory to read %s", source->name);
    }
    s->fd = fd;
    s->owned = owned;
    s->grows = fstat(fd, &is) == 0 && S_ISREG(is.st_mode);
    s->regular = s->grows && lseek(fd, 0, SEEK_CUR) == 0;
    source->grows = s->grows && is_written(fd);
    source->state = s;
    source->close = stream_close;
    source->read = stream_read;
    return SOURCE_OK;
}

static void be_raw(struct source *source, const struct source_options *options)
{
    struct stream *s = source->state;
    s->shape = SHAPE_RAW;
    s->format = formats[options->pcm ? options->pcm : SOURCE_PCM_S16LE];
    source->rate = options->rate ? options->rate : 16000;
    source->channels = options->channels ? options->channels : 1;
}

/* No option describes the samples: a notice says what they are read as. */
static void assume_raw(struct source *source, const struct source_options *options)
{
    char line[256];
    struct stream *s = source->state;
    be_raw(source, options);
    if (!options->notice || options->rate || options->channels || s->filled < 2) return;
    snprintf(line, sizeof line, "%s is read as s16le, 16000 Hz, mono (change with --pcm, --rate and --channels)",
             source->name);
    options->notice(line);
}

/* libsndfile reads the file from its beginning, by a descriptor of its own. */
static int hand_over(struct source *source, const char *path, struct kind kind)
{
    struct stream *s = source->state;
    int fd = s->owned ? s->fd : fcntl(s->fd, F_DUPFD_CLOEXEC, 3);
    s->owned = false;
    stream_close(source);
    source->read = NULL;
    source->grows = false;
    if (fd < 0) return failure(SOURCE_FAILED, "cannot read %s: %s", source->name, strerror(errno));
    return source_sndfile_open(source, fd, path, kind);
}

static int open_wav(struct source *source, const char *path, const struct source_options *options)
{
    struct stream *s = source->state;
    if (s->shape != SHAPE_WAV && (options->rate || options->channels))
        return failure(SOURCE_USAGE, "%s is for raw PCM, and %s is a WAV with its own header",
                       options->rate ? "--rate" : "--channels", source->name);
    if (s->shape != SHAPE_WAV) wav_init(&s->wav);
    s->shape = SHAPE_WAV;
    int status = read_wav_header(source);
    if (s->wav.state != WAV_FAILED) return status; /* also where the input cannot be read */
    if (s->regular && s->wav.unsupported) return hand_over(source, path, (struct kind){KIND_SNDFILE, "WAV"});
    const char *help = s->wav.unsupported ? "; put this before it: ffmpeg -loglevel error -i - -f wav - |" : "";
    return failure(SOURCE_FAILED, "%s is a WAV, but %s%s", source->name, s->wav.error, help);
}

static int open_by_kind(struct source *source, const char *path, const struct source_options *options)
{
    struct stream *s = source->state;
    struct kind kind;
    int status = sniff(source, &kind);
    if (status != SOURCE_OK) return status;
    bool says_raw = options->rate || options->channels;
    if (says_raw && kind.name && strcmp(kind.name, "text") == 0) kind = (struct kind){KIND_UNKNOWN, NULL};
    switch (kind.class) {
    case KIND_WAV:
        return open_wav(source, path, options);
    case KIND_FLAC:
    case KIND_OGG:
    case KIND_MPEG:
    case KIND_SNDFILE:
        return s->regular ? hand_over(source, path, kind) : source_refuse(source, kind, false, path);
    case KIND_FFMPEG:
    case KIND_SEEKABLE:
    case KIND_NO_SOUND:
        return source_refuse(source, kind, s->regular, path);
    default:
        break;
    }
    if (path && s->regular) return hand_over(source, path, kind);
    assume_raw(source, options);
    return SOURCE_OK;
}

int source_stream_open(struct source *source, int fd, bool owned, const char *name, const char *path,
                       const struct source_options *options)
{
    int status =
        source->state ? SOURCE_OK : begin(source, fd, owned, name); /* after an interruption there is a state */
    if (status != SOURCE_OK) return status;
    struct stream *s = source->state;
    struct stat is;
    s->notice = options->notice;
    if (path && s->regular && !source->grows && fstat(s->fd, &is) == 0 && is.st_size == 0) {
        stream_close(source);
        return failure(SOURCE_FAILED, "%s is empty", source->name);
    }
    if (options->pcm != SOURCE_PCM_NONE)
        be_raw(source, options);
    else
        status = s->shape == SHAPE_WAV ? open_wav(source, path, options) : open_by_kind(source, path, options);
    if (status != SOURCE_OK && status != SOURCE_INTERRUPTED && source->close) stream_close(source);
    return status;
}

int source_stdin_open(struct source *source, const struct source_options *options)
{
    return source_stream_open(source, STDIN_FILENO, false, "standard input", NULL, options);
}

int source_file_open(struct source *source, const char *path, const struct source_options *options)
{
    struct stat st;
    if (source->state) /* continues after an interruption */
        return source_stream_open(source, -1, true, path, path, options);
    source_set_name(source, path);
    if (options->pcm == SOURCE_PCM_NONE && (options->rate || options->channels))
        return failure(SOURCE_USAGE, "%s is for raw PCM: add --pcm, or leave it to the header of %s",
                       options->rate ? "--rate" : "--channels", source->name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == EINTR) return SOURCE_INTERRUPTED; /* a FIFO waits for its writer */
    if (fd < 0 && errno == ENOENT && strstr(path, "://"))
        return failure(SOURCE_FAILED, "%s is an address, not a file; ffmpeg reads it: %s", source->name,
                       source_ffmpeg(path).line);
    if (fd < 0 || fstat(fd, &st) < 0)
        failure(SOURCE_FAILED, "cannot open %s: %s", source->name, strerror(errno));
    else if (S_ISDIR(st.st_mode))
        failure(SOURCE_FAILED, "%s is a directory", source->name);
    else
        return source_stream_open(source, fd, true, path, path, options);
    if (fd >= 0) close(fd);
    return SOURCE_FAILED;
}
