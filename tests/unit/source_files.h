/* Shared by the tests of sources: files in a temporary folder, and reading a source to its end. */
#ifndef SOURCE_FILES_H
#define SOURCE_FILES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <sndfile.h>

#include "input/source.h"
#include "util/failure.h"

#define UNUSED __attribute__((unused)) /* each test uses a part of this header */

UNUSED static const struct source_options none;
static char dir[] = "/tmp/surtitle-test-XXXXXX";
static char path[256];

UNUSED static const char *named(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

UNUSED static const char *write_file(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(named(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}

enum { N = 65536 };
UNUSED static int16_t every[N];
UNUSED static float got[8 * N];

UNUSED static void write_audio(const char *name, int format, int rate, int channels, const int16_t *pcm, size_t frames)
{
    SF_INFO info = {.samplerate = rate, .channels = channels, .format = format};
    SNDFILE *f = sf_open(named(name), SFM_WRITE, &info);
    assert_non_null(f);
    sf_command(f, SFC_SET_SCALE_INT_FLOAT_WRITE, NULL, SF_TRUE); /* for float files */
    assert_int_equal(sf_writef_short(f, pcm, (sf_count_t)frames), frames);
    assert_int_equal(sf_close(f), 0);
}

static int make_dir(void **state)
{
    return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

UNUSED static const struct source_options raw_s16 = {SOURCE_PCM_S16LE, 0, 0};

/* Reads to the end in calls of at most max_frames; returns the frames. */
UNUSED static size_t read_all(struct source *s, float *out, size_t room, size_t max_frames)
{
    size_t frames = 0;
    for (;;) {
        size_t most = room - frames < max_frames ? room - frames : max_frames;
        ptrdiff_t n = s->read(s, out + frames * (size_t)s->channels, most);
        if (n < 0) fail_msg("%s", failure_text());
        assert_true((size_t)n <= most);
        if (n == 0) return frames;
        frames += (size_t)n;
    }
}

UNUSED static void expect_line(const struct source *s, const char *part)
{
    if (!strstr(failure_text(), part) || strchr(failure_text(), '\n'))
        fail_msg("'%s' does not say '%s'", failure_text(), part);
    assert_null(s->close);
    assert_null(s->state);
}

UNUSED static void put_le(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

/* 16 kHz mono s16 with n samples 1, 2, 3, ...; returns the bytes. */
UNUSED static size_t make_wav(uint8_t *p, uint32_t size_said, size_t n)
{
    static const uint8_t head[44] =
        "RIFF\xff\xff\xff\xffWAVEfmt \x10\0\0\0\1\0\1\0\x80\x3e\0\0\0\x7d\0\0\2\0\x10\0data";
    memcpy(p, head, sizeof head);
    put_le(p + 40, size_said);
    for (size_t i = 0; i < n; i++) p[44 + 2 * i] = (uint8_t)(i + 1), p[45 + 2 * i] = 0;
    return 44 + 2 * n;
}

#endif
