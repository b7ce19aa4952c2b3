/* Files as sources: every container and coding, cut files, files that cannot be read. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "source_files.h"

static void test_lossless_files_are_exact(void **state)
{
    static const int formats[] = {
        SF_FORMAT_WAV | SF_FORMAT_PCM_16,   SF_FORMAT_WAV | SF_FORMAT_PCM_24,  SF_FORMAT_WAV | SF_FORMAT_PCM_32,
        SF_FORMAT_WAVEX | SF_FORMAT_PCM_16, SF_FORMAT_RF64 | SF_FORMAT_PCM_16, SF_FORMAT_WAV | SF_FORMAT_FLOAT,
        SF_FORMAT_FLAC | SF_FORMAT_PCM_16,  SF_FORMAT_AIFF | SF_FORMAT_PCM_16, SF_FORMAT_AU | SF_FORMAT_PCM_16};
    for (int i = 0; i < N; i++) every[i] = (int16_t)(i - 32768);
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
        for (int channels = 1; channels <= 2; channels++) {
            struct source s = {0};
            write_audio("exact", formats[f], 22050, channels, every, (size_t)(N / channels));
            assert_int_equal(source_file_open(&s, named("exact"), &none), SOURCE_OK);
            assert_int_equal(s.rate, 22050);
            assert_int_equal(s.channels, channels);
            assert_int_equal(read_all(&s, got, N, 999), N / channels);
            for (int i = 0; i < N; i++) assert_true(got[i] == (float)every[i] / 32768);
            s.close(&s);
        }
}

static void test_eight_channels_at_192_khz(void **state)
{
    struct source s = {0};
    write_audio("eight", SF_FORMAT_WAVEX | SF_FORMAT_PCM_16, 192000, 8, every, N / 8);
    assert_int_equal(source_file_open(&s, named("eight"), &none), SOURCE_OK);
    assert_int_equal(s.rate, 192000);
    assert_int_equal(s.channels, 8);
    assert_int_equal(read_all(&s, got, N / 8, 1000), N / 8);
    for (int i = 0; i < N; i++) assert_true(got[i] == (float)every[i] / 32768);
    s.close(&s);
}

/* Lossy: a sine comes back at its level. A decoder may add some delay, so levels are compared, not samples. */
static void check_lossy(const char *name, int format)
{
    static int16_t sine[48000];
    struct source s = {0};
    double sum = 0;
    for (int i = 0; i < 48000; i++) sine[i] = (int16_t)lrint(16384 * sin(2 * M_PI * 440 * i / 48000));
    write_audio(name, format, 48000, 1, sine, 48000);
    assert_int_equal(source_file_open(&s, named(name), &none), SOURCE_OK);
    assert_int_equal(s.rate, 48000);
    size_t n = read_all(&s, got, 8 * N, 4096);
    assert_true(n >= 48000 && n < 48000 + 3 * 1152);
    for (int i = 12000; i < 36000; i++) sum += got[i] * got[i];
    double level = sqrt(2 * sum / 24000);
    if (fabs(level - 0.5) > 0.01) fail_msg("%s: amplitude %.4f", name, level);
    s.close(&s);
}

static void test_vorbis(void **state)
{
    check_lossy("x.ogg", SF_FORMAT_OGG | SF_FORMAT_VORBIS);
}

static void test_mp3(void **state)
{
    SF_INFO info = {.samplerate = 48000, .channels = 1, .format = SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III};
    if (!sf_format_check(&info)) skip(); /* a libsndfile without mpg123 and lame */
    check_lossy("x.mp3", info.format);
}

static void test_float_file_is_finite(void **state)
{
    float f[4] = {0.25f, NAN, INFINITY, -2};
    struct source s = {0};
    SF_INFO info = {.samplerate = 16000, .channels = 1, .format = SF_FORMAT_WAV | SF_FORMAT_FLOAT};
    SNDFILE *file = sf_open(named("nan.wav"), SFM_WRITE, &info);
    assert_int_equal(sf_write_float(file, f, 4), 4);
    sf_close(file);
    assert_int_equal(source_file_open(&s, named("nan.wav"), &none), SOURCE_OK);
    assert_int_equal(read_all(&s, got, N, 100), 4);
    assert_true(got[0] == 0.25f && got[1] == 0 && got[2] == 0 && got[3] == -2);
    s.close(&s);
}

/* libsndfile reports a cut FLAC as ended. What it contains is read first. */
static void test_cut_flac_fails_at_its_end(void **state)
{
    struct source s = {0};
    ptrdiff_t n;
    size_t frames = 0;
    for (int i = 0; i < N; i++) every[i] = (int16_t)(rand() % 20000 - 10000);
    write_audio("cut.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 16000, 1, every, N);
    assert_int_equal(truncate(named("cut.flac"), N), 0);
    assert_int_equal(source_file_open(&s, path, &none), SOURCE_OK);
    while ((n = s.read(&s, got + frames, 1000)) > 0) frames += (size_t)n;
    assert_int_equal(n, SOURCE_FAILED);
    assert_non_null(strstr(failure_text(), "is cut or damaged"));
    assert_true(frames > N / 4 && frames < N);
    for (size_t i = 0; i < frames; i++) assert_true(got[i] == (float)every[i] / 32768);
    s.close(&s);
}

static void test_unfinished_recordings(void **state)
{
    static const uint32_t sizes[] = {0, UINT32_MAX, 0x7FFFFFDB, 200, 60, 7};
    uint8_t wav[244];
    for (int i = 0; i < 6; i++) {
        struct source s = {0};
        write_file("cut.wav", wav, make_wav(wav, sizes[i], 100));
        assert_int_equal(source_file_open(&s, named("cut.wav"), &none), SOURCE_OK);
        assert_int_equal(s.rate, 16000);
        assert_int_equal(read_all(&s, got, N, 64), 100);
        for (int k = 0; k < 100; k++) assert_true(got[k] == (float)(k + 1) / 32768);
        s.close(&s);
    }
}

static void test_raw_files(void **state)
{
    int16_t s16[5] = {1, -1, 32767, -32768, 7};
    float f32[4] = {0.5f, NAN, -INFINITY, -3};
    struct source_options two = {SOURCE_PCM_S16LE, 44100, 2}, floats = {SOURCE_PCM_F32LE, 0, 0};
    struct source s = {0}, t = {0}, u = {0};
    write_file("x.raw", s16, sizeof s16);
    assert_int_equal(source_file_open(&s, named("x.raw"), &two), SOURCE_OK);
    assert_int_equal(s.rate, 44100);
    assert_int_equal(s.channels, 2);
    assert_int_equal(read_all(&s, got, N, 1), 2); /* the fifth sample is not a whole frame */
    for (int i = 0; i < 4; i++) assert_true(got[i] == (float)s16[i] / 32768);
    s.close(&s);
    write_file("x.f32", f32, sizeof f32);
    assert_int_equal(source_file_open(&t, named("x.f32"), &floats), SOURCE_OK);
    assert_int_equal(t.rate, 16000);
    assert_int_equal(read_all(&t, got, N, 100), 4);
    assert_true(got[0] == 0.5f && got[1] == 0 && got[2] == 0 && got[3] == -3);
    t.close(&t);
    write_file("x.raw", "RIFFxxxxWAVE", 12); /* --pcm does not look at the bytes */
    assert_int_equal(source_file_open(&u, named("x.raw"), &raw_s16), SOURCE_OK);
    assert_int_equal(read_all(&u, got, N, 100), 6);
    u.close(&u);
}

static void expect_file_error(const char *name, const struct source_options *options, int status, const char *part)
{
    struct source s = {0};
    assert_int_equal(source_file_open(&s, name, options), status);
    expect_line(&s, part);
}

static void test_files_that_cannot_be_read(void **state)
{
    static const struct source_options rate = {SOURCE_PCM_NONE, 8000, 0}, channels = {SOURCE_PCM_NONE, 0, 2};
    struct source s = {0};
    expect_file_error("/nowhere/x.wav", &none, SOURCE_FAILED, "cannot open /nowhere/x.wav: No such file");
    expect_file_error("/nowhere/\033[31m", &none, SOURCE_FAILED, "/nowhere/\xEF\xBF\xBD[31m:");
    expect_file_error(dir, &none, SOURCE_FAILED, "is a directory");
    expect_file_error(dir, &raw_s16, SOURCE_FAILED, "is a directory");
    expect_file_error(write_file("empty", "", 0), &none, SOURCE_FAILED, "is empty");
    expect_file_error(write_file("empty", "", 0), &raw_s16, SOURCE_FAILED, "is empty");
    expect_file_error(write_file("text", "this is no audio at all, only words", 35), &none, SOURCE_FAILED,
                      "text is text, not sound");
    expect_file_error(write_file("x", "x", 1), &none, SOURCE_FAILED, "is not audio that can be read");
    expect_file_error(write_file("x", "\1\2\3\4\5\6\7\1\2\3\4\5\6", 13), &none, SOURCE_FAILED,
                      "(raw samples need --pcm)");
    expect_file_error("https://radio.example/a?b=1&c=2", &none, SOURCE_FAILED,
                      "ffmpeg -loglevel error -i 'https://radio.example/a?b=1&c=2' -f wav - | surtitle -");
    expect_file_error("/nowhere", &rate, SOURCE_USAGE, "--rate");
    expect_file_error("/nowhere", &channels, SOURCE_USAGE, "--channels");
    write_audio("none.flac", SF_FORMAT_FLAC | SF_FORMAT_PCM_16, 16000, 1, every, 0);
    if (source_file_open(&s, named("none.flac"), &none) == SOURCE_OK) {
        assert_int_equal(s.read(&s, got, 100), SOURCE_FAILED);
        assert_non_null(strstr(failure_text(), "holds no sample"));
        s.close(&s);
    }
    struct source h = {0};
    write_file("half", "x", 1);
    assert_int_equal(source_file_open(&h, named("half"), &raw_s16), SOURCE_OK);
    assert_int_equal(h.read(&h, got, 100), SOURCE_FAILED);
    assert_non_null(strstr(failure_text(), "holds no sample"));
    h.close(&h);
    if (geteuid() == 0) return; /* root reads everything */
    write_file("secret", "x", 1);
    chmod(path, 0);
    expect_file_error(named("secret"), &none, SOURCE_FAILED, "Permission denied");
}

static void test_too_many_channels(void **state)
{
    write_audio("many.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16, 16000, 65, every, 10);
    expect_file_error(named("many.wav"), &none, SOURCE_FAILED, "65 channels");
    write_audio("slow.wav", SF_FORMAT_WAV | SF_FORMAT_PCM_16, 999, 1, every, 10);
    expect_file_error(named("slow.wav"), &none, SOURCE_FAILED, "999 Hz");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lossless_files_are_exact),
        cmocka_unit_test(test_eight_channels_at_192_khz),
        cmocka_unit_test(test_vorbis),
        cmocka_unit_test(test_mp3),
        cmocka_unit_test(test_float_file_is_finite),
        cmocka_unit_test(test_cut_flac_fails_at_its_end),
        cmocka_unit_test(test_unfinished_recordings),
        cmocka_unit_test(test_raw_files),
        cmocka_unit_test(test_files_that_cannot_be_read),
        cmocka_unit_test(test_too_many_channels),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
