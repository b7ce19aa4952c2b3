/* Pipes and standard input as sources: what is recognised, what is refused, signals, descriptors that do not block. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "source_files.h"

/* Opens a pipe that holds bytes; keeps the writing end if writer is not NULL. */
static int open_pipe(struct source *s, const void *bytes, size_t n, const struct source_options *options, int *writer)
{
    int fd[2];
    *s = (struct source){0};
    assert_int_equal(pipe(fd), 0);
    assert_int_equal(write(fd[1], bytes, n), n);
    if (writer)
        *writer = fd[1];
    else
        close(fd[1]);
    return source_stream_open(s, fd[0], true, "standard input", NULL, options);
}

static void test_piped_wav(void **state)
{
    uint8_t wav[300];
    struct source s;
    assert_int_equal(open_pipe(&s, wav, make_wav(wav, UINT32_MAX, 100), &none, NULL), SOURCE_OK);
    assert_int_equal(s.rate, 16000);
    assert_int_equal(s.channels, 1);
    assert_int_equal(read_all(&s, got, N, 7), 100);
    for (int k = 0; k < 100; k++) assert_true(got[k] == (float)(k + 1) / 32768);
    s.close(&s);
    make_wav(wav, 20, 100); /* the size is wrong */
    assert_int_equal(open_pipe(&s, wav, 244, &none, NULL), SOURCE_OK);
    assert_int_equal(read_all(&s, got, N, 700), 100);
    s.close(&s);
    make_wav(wav, 1000, 100); /* cut */
    assert_int_equal(open_pipe(&s, wav, 244, &none, NULL), SOURCE_OK);
    assert_int_equal(s.read(&s, got, 1000), 100);
    assert_int_equal(s.read(&s, got, 1000), SOURCE_FAILED);
    assert_non_null(strstr(failure_text(), "is cut: it ends after"));
    s.close(&s);
    assert_int_equal(open_pipe(&s, wav, 44, &none, NULL), SOURCE_OK);
    assert_int_equal(s.read(&s, got, 10), SOURCE_FAILED);
    assert_non_null(strstr(failure_text(), "holds no sample"));
    s.close(&s);
    assert_int_equal(open_pipe(&s, wav, 30, &none, NULL), SOURCE_FAILED);
    expect_line(&s, "standard input is a WAV, but it ends before its data");
    wav[20] = 17;
    assert_int_equal(open_pipe(&s, wav, 60, &none, NULL), SOURCE_FAILED);
    expect_line(&s, "IMA ADPCM");
    assert_int_equal(open_pipe(&s, wav, 60, &(struct source_options){SOURCE_PCM_NONE, 16000, 0}, NULL), SOURCE_USAGE);
    expect_line(&s, "--rate");
    assert_int_equal(open_pipe(&s, wav, 60, &(struct source_options){SOURCE_PCM_NONE, 0, 1}, NULL), SOURCE_USAGE);
    expect_line(&s, "--channels");
}

static size_t put_mpeg(uint8_t *p, const uint8_t header[4], size_t frame, int n)
{
    memset(p, 0x55, frame * (size_t)n);
    for (int i = 0; i < n; i++) memcpy(p + frame * (size_t)i, header, 4);
    return frame * (size_t)n;
}

static void expect_refused(const void *bytes, size_t n, const char *what, const char *help)
{
    struct source s;
    assert_int_equal(open_pipe(&s, bytes, n, &none, NULL), SOURCE_FAILED);
    expect_line(&s, what);
    expect_line(&s, help);
    assert_int_equal(open_pipe(&s, bytes, n, &raw_s16, NULL), SOURCE_OK); /* --pcm reads anything */
    assert_int_equal(read_all(&s, got, N, 100), n / 2);
    s.close(&s);
    if (strcmp(what, "MPEG audio") == 0)
        return; /* libsndfile opens these as a file, but none of the others */
    s = (struct source){0};
    assert_int_equal(source_file_open(&s, write_file("it is", bytes, n), &none), SOURCE_FAILED);
    assert_null(strstr(failure_text(), "--pcm"));
    if (!strstr(failure_text(), "is cut"))
        expect_line(&s, strcmp(help, "not sound") == 0 ? help : "-f wav - | surtitle -");
    expect_line(&s, "it is");
}

static void test_containers_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *what, *help;
    } cases[] = {
        {"fLaC\0\0\0\x22\x10\0\x10\0", 12, "FLAC", "before it: ffmpeg "},
        {"OggS\0\2\0\0\0\0\0\0", 12, "Ogg", "before it: ffmpeg "},
        {"ID3\4\0\0\0\0\0\0\0\0", 12, "MP3", "before it: ffmpeg "},
        {"FORM\0\0\0\4AIFF", 12, "AIFF", "before it: ffmpeg "},
        {".snd\0\0\0\x18\0\0\0\0", 12, "AU", "before it: ffmpeg "},
        {"caff\0\1\0\0desc", 12, "CAF", "before it: ffmpeg "},
        {"riff\x2E\x91\xCF\x11\xA5\xD6\x28\xDB\4\xC1\0\0", 16, "W64", "before it: ffmpeg "},
        {"\x1A\x45\xDF\xA3\1\0\0\0\0\0\0\x1F", 12, "Matroska", "before it: ffmpeg "},
        {"\x30\x26\xB2\x75\x8E\x66\xCF\x11\xA6\xD9\0\xAA", 12, "WMA", "before it: ffmpeg "},
        {"#!AMR\n\x3C\1\2\3\4\5", 12, "AMR", "before it: ffmpeg "},
        {"FLV\1\5\0\0\0\x9\0\0\0", 12, "FLV", "before it: ffmpeg "},
        {"RIFF\0\0\0\0AVI ", 12, "AVI", "before it: ffmpeg "},
        {"\0\0\0\x20"
         "ftypM4A ",
         12, "MP4", "save it, then: ffmpeg "},
        {"\0\0\0\x08mdat\0\0\0\0", 12, "MP4", "save it, then: ffmpeg "},
        {"\x1F\x8B\x08\0\0\0\0\0\0\3xy", 12, "gzip", "not sound"},
        {"PK\3\4\x14\0\0\0\0\0\0\0", 12, "zip", "not sound"},
        {"%PDF-1.4\n%\xE2\xE3", 11, "PDF", "not sound"},
        {"GGUF\3\0\0\0\0\0\0\0", 12, "GGUF", "not sound"},
        {"<!DOCTYPE html>\n<html><head><title>404 Not Found</title>", 56, "HTML", "not sound"},
        {"\n <HTML>\n", 9, "HTML", "not sound"},
        {"Dear Sir, \xC3\xA4 this is a letter and no sound, with an umlaut", 57, "text", "not sound"},
        {"MAC addresses are six bytes long, and this is text as well", 58, "text", "not sound"},
        {"{\"error\":1}", 11, "text", "not sound"},
        {"\xEF\xBB\xBFRIFF or not, this begins with a byte order mark ....", 56, "text", "not sound"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refused(cases[i].bytes, cases[i].n, cases[i].what, cases[i].help);
    uint8_t packets[1200] = {0};
    for (int i = 0; i < 6; i++) packets[188 * i] = 0x47;
    expect_refused(packets, sizeof packets, "MPEG transport stream", "before it: ffmpeg ");
    memset(packets, 0, sizeof packets);
    for (int i = 0; i < 6; i++) packets[4 + 192 * i] = 0x47;
    expect_refused(packets, sizeof packets, "MPEG transport stream", "before it: ffmpeg ");
}

static void test_frames_are_refused(void **state)
{
    static const struct {
        uint8_t header[7];
        size_t frame;
        const char *what;
    } cases[] = {
        {{0xFF, 0xFB, 0x90, 0x64}, 417, "MPEG audio"},      /* MPEG-1 layer III, 128 kbit/s, 44.1 kHz */
        {{0xFF, 0xF3, 0x40, 0xC4}, 104, "MPEG audio"},      /* MPEG-2 layer III, 32 kbit/s, 22.05 kHz */
        {{0xFF, 0xE3, 0x48, 0xC4}, 288, "MPEG audio"},      /* MPEG-2.5 layer III, 32 kbit/s, 8 kHz */
        {{0xFF, 0xFD, 0xA4, 0x04}, 576, "MPEG audio"},      /* MPEG-1 layer II, 192 kbit/s, 48 kHz */
        {{0xFF, 0xF1, 0x50, 0x80, 0x10, 0, 0}, 128, "AAC"}, /* ADTS */
        {{0x0B, 0x77, 1, 2, 0x08, 0x40, 0}, 256, "AC-3"},   /* 64 kbit/s, 48 kHz */
    };
    static uint8_t bytes[8192], noise[4096];
    struct source s;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = put_mpeg(bytes, cases[i].header, cases[i].frame, 4);
        for (int k = 0; k < 4; k++) memcpy(bytes + cases[i].frame * (size_t)k, cases[i].header, 7);
        expect_refused(bytes, n, cases[i].what, "before it: ffmpeg ");
        /* a single header may be the first sample of a recording */
        for (size_t k = 0; k < sizeof noise; k++) noise[k] = (uint8_t)rand();
        memcpy(noise, cases[i].header, 4);
        assert_int_equal(open_pipe(&s, noise, sizeof noise, &none, NULL), SOURCE_OK);
        assert_int_equal(read_all(&s, got, N, 4096), sizeof noise / 2);
        s.close(&s);
    }
}

/* With every value of the first sample. */
static void test_no_recording_is_refused(void **state)
{
    static int16_t pcm[4096];
    for (int i = 0; i < 4096; i++) pcm[i] = (int16_t)(rand() % 3001 - 1500);
    for (int first = -32768; first < 32768; first++) {
        pcm[0] = (int16_t)first;
        pcm[1] = (int16_t)(rand() % 65536 - 32768);
        struct kind k = kind_of((const uint8_t *)pcm, sizeof pcm, false);
        if (k.class != KIND_UNKNOWN) fail_msg("%d, %d: %s", first, pcm[1], k.name ? k.name : "more bytes are wanted");
    }
}

static char said[512];

static void say(const char *line)
{
    snprintf(said + strlen(said), sizeof said - strlen(said), "%s\n", line);
}

static void test_anything_else_is_raw(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } cases[] = {
        {"\xFF\xFF\xFF\xFF\1\0\2\0\3\0\4\0", 12},
        {"\xFF\xFF\0\0\1\0\2\0\3\0\4\0", 12}, /* quiet: -1, 0 */
        {"fLa\1\0\2\0\3\0", 9},
        {"\1\0", 2},
        {"\1\0\2\0\3\0\4\0\5\0\6\0\7", 13},
        {"fLaD\0\0\0\x22\x10\0\x10\0", 12},
        {"\xFF\xFD\xA0\x04\0\0\0\0\0\0\0\0", 12}, /* one MPEG header */
    };
    const struct source_options speaking = {.notice = say};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct source s;
        said[0] = 0;
        assert_int_equal(open_pipe(&s, cases[i].bytes, cases[i].n, &speaking, NULL), SOURCE_OK);
        assert_string_equal(said, "standard input is read as s16le, 16000 Hz, mono (change with --pcm, --rate and "
                                  "--channels)\n");
        assert_int_equal(s.rate, 16000);
        assert_int_equal(s.channels, 1);
        assert_int_equal(read_all(&s, got, N, 4), cases[i].n / 2);
        const uint8_t *p = (const uint8_t *)cases[i].bytes;
        for (size_t k = 0; k < cases[i].n / 2; k++)
            assert_true(got[k] == (float)(int16_t)(p[2 * k] | p[2 * k + 1] << 8) / 32768);
        s.close(&s);
    }
    /* with an option nothing is assumed, so there is no line */
    const struct source_options told[] = {
        {SOURCE_PCM_S16LE, 0, 0, say}, {SOURCE_PCM_NONE, 16000, 0, say}, {SOURCE_PCM_NONE, 0, 1, say}};
    for (int i = 0; i < 3; i++) {
        struct source s;
        said[0] = 0;
        assert_int_equal(open_pipe(&s, "\1\0\2\0", 4, &told[i], NULL), SOURCE_OK);
        assert_string_equal(said, "");
        s.close(&s);
    }
}

static void test_raw_codings(void **state)
{
    static const struct {
        enum source_pcm pcm;
        const char *bytes;
        size_t n;
        float want[2];
    } cases[] = {
        {SOURCE_PCM_U8, "\0\xC0", 2, {-1, 0.5f}},
        {SOURCE_PCM_S24LE, "\0\0\x80\0\0\x40\1", 7, {-1, 0.5f}},
        {SOURCE_PCM_S32LE, "\0\0\0\x80\0\0\0\x40\1", 9, {-1, 0.5f}},
        {SOURCE_PCM_S16BE, "\x80\0\x40\0\1", 5, {-1, 0.5f}},
        {SOURCE_PCM_MULAW, "\0\x80", 2, {-32124.f / 32768, 32124.f / 32768}},
        {SOURCE_PCM_ALAW, "\xD5\x2A", 2, {8.f / 32768, -32256.f / 32768}},
        {SOURCE_PCM_F32LE, "\0\0\x80\xBF\0\0\0\x3F", 8, {-1, 0.5f}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct source s;
        struct source_options o = {.pcm = cases[i].pcm};
        assert_int_equal(open_pipe(&s, cases[i].bytes, cases[i].n, &o, NULL), SOURCE_OK);
        assert_int_equal(read_all(&s, got, N, 4), 2);
        assert_true(got[0] == cases[i].want[0] && got[1] == cases[i].want[1]);
        s.close(&s);
    }
}

static void test_raw_options(void **state)
{
    struct source s;
    struct source_options two = {SOURCE_PCM_NONE, 8000, 2};
    assert_int_equal(open_pipe(&s, "0123456789abcdef", 15, &two, NULL), SOURCE_OK);
    assert_int_equal(s.rate, 8000);
    assert_int_equal(s.channels, 2);
    assert_int_equal(read_all(&s, got, N, 100), 3);
    s.close(&s);
}

static void test_no_sample_is_a_failure(void **state)
{
    for (size_t n = 0; n < 2; n++)
        for (int raw = 0; raw < 2; raw++) {
            struct source s;
            assert_int_equal(open_pipe(&s, "x", n, raw ? &raw_s16 : &none, NULL), SOURCE_OK);
            assert_int_equal(s.read(&s, got, 100), SOURCE_FAILED);
            assert_string_equal(failure_text(), "standard input holds no sample");
            s.close(&s);
        }
}

static void test_live_frames_come_at_once(void **state)
{
    struct source s;
    int writer;
    assert_int_equal(open_pipe(&s, "\1\0\2\0\3", 5, &raw_s16, &writer), SOURCE_OK);
    assert_int_equal(s.read(&s, got, 1000), 2); /* would hang here if it waited for more */
    assert_true(got[0] == 1.0f / 32768 && got[1] == 2.0f / 32768);
    assert_int_equal(write(writer, "\0\4\0", 3), 3);
    assert_int_equal(s.read(&s, got, 1000), 2);
    assert_true(got[0] == 3.0f / 32768 && got[1] == 4.0f / 32768);
    close(writer);
    assert_int_equal(s.read(&s, got, 1000), 0);
    assert_int_equal(s.read(&s, got, 1000), 0);
    s.close(&s);
}

static void on_alarm(int signal_number)
{
    (void)signal_number;
}

/* Periodic, so that a signal before the read is followed by another. */
static void start_alarms(long microseconds)
{
    struct sigaction a = {.sa_handler = on_alarm};
    struct itimerval t = {{0, microseconds}, {0, microseconds}};
    sigaction(SIGALRM, &a, NULL);
    setitimer(ITIMER_REAL, &t, NULL);
}

static void test_signals_interrupt(void **state)
{
    struct source s;
    uint8_t wav[64];
    int writer;
    size_t n = make_wav(wav, 0, 5);
    start_alarms(5000);
    int first = open_pipe(&s, wav, 7, &none, &writer); /* in the first 12 bytes */
    assert_int_equal(first, SOURCE_INTERRUPTED);
    assert_int_equal(write(writer, wav + 7, 20), 20); /* in the header */
    assert_int_equal(source_stream_open(&s, -1, true, "", NULL, &none), SOURCE_INTERRUPTED);
    assert_int_equal(write(writer, wav + 27, n - 27), n - 27);
    int status;
    while ((status = source_stream_open(&s, -1, true, "", NULL, &none)) == SOURCE_INTERRUPTED) continue;
    assert_int_equal(status, SOURCE_OK);
    assert_int_equal(s.read(&s, got, 1000), 5);
    assert_int_equal(s.read(&s, got, 1000), SOURCE_INTERRUPTED);
    fcntl(writer, F_SETFL, O_NONBLOCK); /* the reader waits even if the descriptor does not block */
    assert_int_equal(write(writer, "\1\0", 2), 2);
    assert_int_equal(s.read(&s, got, 1000), 1);
    start_alarms(0);
    close(writer);
    assert_int_equal(s.read(&s, got, 1000), 0);
    s.close(&s);
    start_alarms(5000); /* closing instead of continuing frees everything */
    assert_int_equal(open_pipe(&s, wav, 7, &none, &writer), SOURCE_INTERRUPTED);
    start_alarms(0);
    s.close(&s);
    close(writer);
}

static void *write_slowly(void *fd)
{
    uint8_t wav[244];
    size_t n = make_wav(wav, 0, 100);
    for (size_t i = 0; i < n; i++) {
        if (write(*(int *)fd, wav + i, 1) != 1) break;
        if (i % 10 == 0) usleep(300);
    }
    close(*(int *)fd);
    return NULL;
}

static void test_a_descriptor_that_does_not_wait(void **state)
{
    struct source s = {0};
    pthread_t thread;
    int fd[2];
    assert_int_equal(pipe(fd), 0);
    fcntl(fd[0], F_SETFL, O_NONBLOCK);
    pthread_create(&thread, NULL, write_slowly, &fd[1]);
    assert_int_equal(source_stream_open(&s, fd[0], true, "pipe", NULL, &none), SOURCE_OK);
    assert_int_equal(read_all(&s, got, N, 64), 100);
    for (int k = 0; k < 100; k++) assert_true(got[k] == (float)(k + 1) / 32768);
    pthread_join(thread, NULL);
    s.close(&s);
}

static void *write_fifo(void *name)
{
    int fd = open(name, O_WRONLY);
    return write_slowly(&fd);
}

static void test_fifo_as_file(void **state)
{
    struct source s = {0};
    pthread_t thread;
    char name[256];
    assert_int_equal(mkfifo(strcpy(name, named("fifo")), 0600), 0);
    pthread_create(&thread, NULL, write_fifo, name);
    assert_int_equal(source_file_open(&s, name, &none), SOURCE_OK);
    assert_int_equal(read_all(&s, got, N, 64), 100);
    pthread_join(thread, NULL);
    s.close(&s);
}

static void test_standard_input(void **state)
{
    struct source s = {0}, t = {0}, u = {0};
    int saved = dup(STDIN_FILENO), file = open(write_file("in", "\1\0\2\0", 4), O_RDONLY), folder = open(dir, O_RDONLY);
    assert_int_equal(dup2(file, STDIN_FILENO), STDIN_FILENO);
    assert_int_equal(source_stdin_open(&s, &none), SOURCE_OK);
    assert_string_equal(s.name, "standard input");
    assert_int_equal(read_all(&s, got, N, 64), 2);
    s.close(&s);
    assert_true(fcntl(STDIN_FILENO, F_GETFD) >= 0); /* still open */
    dup2(folder, STDIN_FILENO);
    assert_int_equal(source_stdin_open(&t, &none), SOURCE_FAILED);
    expect_line(&t, "cannot read standard input: Is a directory");
    close(STDIN_FILENO);
    assert_int_equal(source_stdin_open(&u, &none), SOURCE_FAILED);
    expect_line(&u, "Bad file descriptor");
    dup2(saved, STDIN_FILENO);
    close(saved), close(file), close(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_piped_wav),
        cmocka_unit_test(test_containers_are_refused),
        cmocka_unit_test(test_frames_are_refused),
        cmocka_unit_test(test_no_recording_is_refused),
        cmocka_unit_test(test_raw_codings),
        cmocka_unit_test(test_anything_else_is_raw),
        cmocka_unit_test(test_raw_options),
        cmocka_unit_test(test_no_sample_is_a_failure),
        cmocka_unit_test(test_live_frames_come_at_once),
        cmocka_unit_test(test_signals_interrupt),
        cmocka_unit_test(test_a_descriptor_that_does_not_wait),
        cmocka_unit_test(test_fifo_as_file),
        cmocka_unit_test(test_standard_input),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
