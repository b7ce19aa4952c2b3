#include "audio/source.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <sndfile.h>

enum { MAX_CHANNELS = 64, MIN_RATE = 1000, MAX_RATE = 768000 }; /* what a session takes */

struct audio_file {
    SNDFILE *file;
    int fd;
    int64_t given, promised; /* frames; promised is 0 where the file does not say for sure */
};

/* A cut or damaged FLAC ends early, and libsndfile calls that the end. Elsewhere the length is an estimate, or taken
 * from what is there. */
static ptrdiff_t at_end(struct source *source, const struct audio_file *a)
{
    if (a->given == 0) return source_fail(source, SOURCE_FAILED, "%s holds no sample", source->name);
    if (a->given >= a->promised) return 0;
    return source_fail(source, SOURCE_FAILED, "%s is cut or damaged: it ends after %.1f s of %.1f", source->name,
                       (double)a->given / source->rate, (double)a->promised / source->rate);
}

static ptrdiff_t file_read(struct source *source, float *frames, size_t max_frames)
{
    struct audio_file *a = source->state;
    sf_count_t n = sf_readf_float(a->file, frames, (sf_count_t)max_frames);
    if (n <= 0 && sf_error(a->file) != SF_ERR_NO_ERROR)
        return source_fail(source, SOURCE_FAILED, "cannot read %s: %s", source->name, sf_strerror(a->file));
    if (n <= 0 && max_frames > 0) return at_end(source, a);
    for (sf_count_t i = 0; i < n * source->channels; i++)
        if (!isfinite(frames[i])) frames[i] = 0;
    a->given += n;
    return (ptrdiff_t)n;
}

static void file_close(struct source *source)
{
    struct audio_file *a = source->state;
    if (a) sf_close(a->file);
    if (a) close(a->fd);
    free(a);
    source->state = NULL;
    source->close = NULL;
}

/* A recorder that was killed leaves a WAV whose header says 0 frames; libsndfile believes it. */
static bool is_unfinished_wav(const SF_INFO *info)
{
    int type = info->format & SF_FORMAT_TYPEMASK;
    return info->frames == 0 && (type == SF_FORMAT_WAV || type == SF_FORMAT_WAVEX || type == SF_FORMAT_RF64);
}

/* Closes fd, or hands it on. */
static int open_audio(struct source *source, int fd, const char *path, const struct source_options *options)
{
    SF_INFO info = {0};
    SNDFILE *file = sf_open_fd(fd, SFM_READ, &info, SF_FALSE);
    if (!file) {
        const char *why = sf_strerror(NULL);
        int n = (int)strlen(why);
        if (n > 0 && why[n - 1] == '.') n--;
        source_fail(source, SOURCE_FAILED, "%s is not audio that can be read: %.*s (raw samples need --pcm)",
                    source->name, n, why);
        goto fail;
    }
    if (is_unfinished_wav(&info)) {
        sf_close(file);
        lseek(fd, 0, SEEK_SET);
        return source_stream_open(source, fd, true, path, options);
    }
    if (info.channels < 1 || info.channels > MAX_CHANNELS) {
        source_fail(source, SOURCE_FAILED, "%s has %d channels; 1 to %d are read", source->name, info.channels,
                    MAX_CHANNELS);
        goto fail;
    }
    if (info.samplerate < MIN_RATE || info.samplerate > MAX_RATE) {
        source_fail(source, SOURCE_FAILED, "%s has %d Hz; %d to %d are read", source->name, info.samplerate, MIN_RATE,
                    MAX_RATE);
        goto fail;
    }
    struct audio_file *a = calloc(1, sizeof *a);
    if (!a) {
        source_fail(source, SOURCE_FAILED, "no memory for reading %s", source->name);
        goto fail;
    }
    bool exact = (info.format & SF_FORMAT_TYPEMASK) == SF_FORMAT_FLAC && info.frames < SF_COUNT_MAX;
    *a = (struct audio_file){.file = file, .fd = fd, .promised = exact ? info.frames : 0};
    source->rate = info.samplerate;
    source->channels = info.channels;
    source->state = a;
    source->read = file_read;
    source->close = file_close;
    return SOURCE_OK;
fail:
    if (file) sf_close(file);
    close(fd);
    return SOURCE_FAILED;
}

int source_file_open(struct source *source, const char *path, const struct source_options *options)
{
    struct stat st;
    if (source->state) return source_stream_open(source, -1, true, path, options); /* goes on after an interruption */
    source_set_name(source, path);
    if (options->pcm == SOURCE_PCM_NONE && (options->rate || options->channels))
        return source_fail(source, SOURCE_USAGE, "%s is for raw samples: say --pcm too, or let %s say it itself",
                           options->rate ? "--rate" : "--channels", source->name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == EINTR) return SOURCE_INTERRUPTED; /* a FIFO waits for its writer */
    if (fd < 0 || fstat(fd, &st) < 0) {
        source_fail(source, SOURCE_FAILED, "cannot open %s: %s", source->name, strerror(errno));
    } else if (S_ISDIR(st.st_mode)) {
        source_fail(source, SOURCE_FAILED, "%s is a directory", source->name);
    } else if (S_ISREG(st.st_mode) && st.st_size == 0) {
        source_fail(source, SOURCE_FAILED, "%s is empty", source->name);
    } else if (options->pcm != SOURCE_PCM_NONE || !S_ISREG(st.st_mode)) {
        return source_stream_open(source, fd, true, path, options);
    } else {
        return open_audio(source, fd, path, options);
    }
    if (fd >= 0) close(fd);
    return SOURCE_FAILED;
}
