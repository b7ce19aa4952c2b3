#include "audio/source.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "audio/wav.h"
#include "util/utf8.h"

enum { SNIFF_BYTES = 12, BUFFER_BYTES = 65536 };

enum kind { KIND_UNKNOWN, KIND_S16LE, KIND_F32LE, KIND_WAV };

struct stream {
    int fd;
    bool owned;
    enum kind kind;
    bool end;          /* of the input's bytes */
    bool any;          /* a frame was given */
    size_t at, filled; /* buffer[at, filled) was read and not used */
    struct wav wav;
    uint8_t buffer[BUFFER_BYTES];
};

void source_set_name(struct source *source, const char *name)
{
    sur_utf8_clean(source->name, sizeof source->name, name, strlen(name));
}

int source_fail(struct source *source, enum source_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(source->error, sizeof source->error, format, args);
    va_end(args);
    return status;
}

/* Waits for more bytes. SOURCE_OK, also at the end; SOURCE_INTERRUPTED; SOURCE_FAILED. */
static int fill(struct source *source)
{
    struct stream *s = source->state;
    memmove(s->buffer, s->buffer + s->at, s->filled - s->at);
    s->filled -= s->at;
    s->at = 0;
    ssize_t n = read(s->fd, s->buffer + s->filled, sizeof s->buffer - s->filled);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) { /* whoever opened it wanted no waiting; we do */
        struct pollfd p = {.fd = s->fd, .events = POLLIN};
        n = poll(&p, 1, -1);
        if (n >= 0) return SOURCE_OK;
    }
    if (n < 0 && errno == EINTR) return SOURCE_INTERRUPTED;
    if (n < 0) return source_fail(source, SOURCE_FAILED, "cannot read %s: %s", source->name, strerror(errno));
    if (n == 0) s->end = true;
    s->filled += (size_t)n;
    return SOURCE_OK;
}

/* An MPEG frame's header (layers II and III, AAC's ADTS). Layer I is left out: nobody has it, and FF FF, the sample -1,
 * begins many a raw recording. */
static bool is_mpeg(const uint8_t *p)
{
    if (p[0] != 0xFF || (p[1] & 0xE0) != 0xE0) return false;
    int version = p[1] >> 3 & 3, layer = p[1] >> 1 & 3;
    if (layer == 0) return (p[1] & 0xF0) == 0xF0 && (p[2] >> 2 & 15) < 13; /* ADTS: one of 13 rates */
    return layer != 3 && version != 1 && p[2] >> 4 != 15 && (p[2] >> 2 & 3) != 3;
}

static const char *refused(const uint8_t *p)
{
    if (memcmp(p, "fLaC", 4) == 0) return "FLAC";
    if (memcmp(p, "OggS", 4) == 0) return "Ogg";
    if (memcmp(p, "ID3", 3) == 0) return "MP3";
    return is_mpeg(p) ? "MPEG audio" : NULL;
}

static int sniff(struct source *source, const struct source_options *options)
{
    struct stream *s = source->state;
    const uint8_t *p = s->buffer;
    while (s->filled < SNIFF_BYTES && !s->end) {
        int status = fill(source);
        if (status != SOURCE_OK) return status;
    }
    s->kind = KIND_S16LE;
    if (s->filled < SNIFF_BYTES) return SOURCE_OK;
    if ((memcmp(p, "RIFF", 4) == 0 || memcmp(p, "RF64", 4) == 0) && memcmp(p + 8, "WAVE", 4) == 0) {
        if (options->rate || options->channels)
            return source_fail(source, SOURCE_USAGE, "%s is for raw samples, and %s is a WAV that says it itself",
                               options->rate ? "--rate" : "--channels", source->name);
        s->kind = KIND_WAV;
        wav_init(&s->wav);
        return SOURCE_OK;
    }
    const char *what = refused(p);
    if (!what) return SOURCE_OK;
    return source_fail(
        source, SOURCE_FAILED,
        "%s is %s, which is not read from a pipe; put this before it: ffmpeg -loglevel error -i - -f wav - |",
        source->name, what);
}

/* Up to the data. */
static int read_wav_header(struct source *source)
{
    struct stream *s = source->state;
    for (;;) {
        size_t used = 0;
        ptrdiff_t r = wav_push(&s->wav, s->buffer + s->at, s->filled - s->at, &used, NULL, 0);
        s->at += used;
        if (r == 0 && s->wav.state >= WAV_DATA) break;
        if (r == 0 && s->end) r = wav_end(&s->wav);
        if (r < 0) return source_fail(source, SOURCE_FAILED, "%s is a WAV, but %s", source->name, s->wav.error);
        int status = fill(source);
        if (status != SOURCE_OK) return status;
    }
    source->rate = s->wav.rate;
    source->channels = s->wav.channels;
    return SOURCE_OK;
}

/* Whole frames of the buffer, at most max; raw samples. */
static size_t convert_raw(struct stream *s, int channels, float *out, size_t max)
{
    size_t width = s->kind == KIND_S16LE ? 2 : 4, frame = width * (size_t)channels, n = (s->filled - s->at) / frame;
    if (n > max) n = max;
    const uint8_t *p = s->buffer + s->at;
    for (size_t i = 0; i < n * (size_t)channels; i++, p += width) {
        uint32_t low = p[0] | (uint32_t)p[1] << 8;
        if (s->kind == KIND_S16LE) {
            out[i] = (float)(int16_t)low / 32768;
        } else {
            uint32_t u = low | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
            memcpy(out + i, &u, sizeof u);
            if (!isfinite(out[i])) out[i] = 0;
        }
    }
    s->at += n * frame;
    return n;
}

static ptrdiff_t stream_read(struct source *source, float *frames, size_t max_frames)
{
    struct stream *s = source->state;
    for (;;) {
        size_t n = 0, used = 0;
        if (s->kind == KIND_WAV) {
            /* the header is past, so this cannot fail */
            n = (size_t)wav_push(&s->wav, s->buffer + s->at, s->filled - s->at, &used, frames,
                                 max_frames * (size_t)source->channels);
            s->at += used;
            if (s->wav.state == WAV_ENDED) s->end = true;
        } else {
            n = convert_raw(s, source->channels, frames, max_frames);
        }
        if (n > 0) {
            s->any = true;
            return (ptrdiff_t)n;
        }
        if (max_frames == 0) return 0;
        if (s->end && !s->any) return source_fail(source, SOURCE_FAILED, "%s holds no sample", source->name);
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

static int begin(struct source *source, int fd, bool owned, const char *name)
{
    source_set_name(source, name);
    struct stream *s = calloc(1, sizeof *s);
    if (!s) {
        if (owned) close(fd);
        return source_fail(source, SOURCE_FAILED, "no memory for reading %s", source->name);
    }
    s->fd = fd;
    s->owned = owned;
    source->state = s;
    source->close = stream_close;
    return SOURCE_OK;
}

int source_stream_open(struct source *source, int fd, bool owned, const char *name,
                       const struct source_options *options)
{
    int status =
        source->state ? SOURCE_OK : begin(source, fd, owned, name); /* there is a state after an interruption */
    if (status != SOURCE_OK) return status;
    struct stream *s = source->state;
    if (options->pcm != SOURCE_PCM_NONE) s->kind = options->pcm == SOURCE_PCM_S16LE ? KIND_S16LE : KIND_F32LE;
    if (s->kind == KIND_UNKNOWN) status = sniff(source, options);
    if (status == SOURCE_OK && s->kind == KIND_WAV) {
        status = read_wav_header(source);
    } else if (status == SOURCE_OK) {
        source->rate = options->rate ? options->rate : 16000;
        source->channels = options->channels ? options->channels : 1;
    }
    source->read = stream_read;
    if (status != SOURCE_OK && status != SOURCE_INTERRUPTED) stream_close(source);
    return status;
}

int source_stdin_open(struct source *source, const struct source_options *options)
{
    return source_stream_open(source, STDIN_FILENO, false, "standard input", options);
}
