/* Files that tests of sources write, in a folder of the test's own. */
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

#define UNUSED __attribute__((unused)) /* no test uses all of this */

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

#endif
