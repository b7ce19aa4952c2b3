/* Files that were joined, cut, or continue behind their end: everything is read, or a line says what is not. */
#include <math.h>

#include "source_files.h"

static size_t file_bytes(const char *name, uint8_t *to, size_t room)
{
    FILE *f = fopen(named(name), "rb");
    assert_non_null(f);
    size_t n = fread(to, 1, room, f);
    fclose(f);
    return n;
}

/* The frames of a file, read to its end or to an error; *line: the error. */
static size_t read_file(const char *name, float *out, size_t room, char line[512])
{
    struct source s = {0};
    ptrdiff_t n;
    size_t frames = 0;
    line[0] = 0;
    if (source_file_open(&s, named(name), &none) != SOURCE_OK) {
        strcpy(line, failure_text());
        return 0;
    }
    size_t channels = (size_t)s.channels;
    while ((n = s.read(&s, out + frames * channels, (room - frames * channels) / channels)) > 0) frames += (size_t)n;
    assert_true(n == 0 || n == SOURCE_FAILED);
    if (n < 0) strcpy(line, failure_text());
    s.close(&s);
    return frames;
}

static int writes(int format)
{
    SF_INFO info = {.samplerate = 48000, .channels = 1, .format = format};
    return sf_format_check(&info);
}

static void make_sines(void)
{
    for (int i = 0; i < N; i++) every[i] = (int16_t)lrint(9000 * sin(0.05 * i) + rand() % 900);
}

static const struct {
    const char *name;
    int format;
} joinable[] = {{"FLAC", SF_FORMAT_FLAC | SF_FORMAT_PCM_16},
                {"Vorbis", SF_FORMAT_OGG | SF_FORMAT_VORBIS},
                {"Opus", SF_FORMAT_OGG | SF_FORMAT_OPUS},
                {"MP3", SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III}};
enum { JOINABLE = sizeof joinable / sizeof *joinable };

/* cat a b c > joined: the frames are those of a, b and c. */
static void test_joined_files(void **state)
{
    static uint8_t bytes[2000000];
    static float parts[4 * N];
    char line[512];
    make_sines();
    for (int f = 0; f < JOINABLE; f++) {
        if (!writes(joinable[f].format)) continue;
        size_t n_bytes = 0, n_frames = 0;
        for (int i = 0; i < 3; i++) {
            write_audio("part", joinable[f].format, 48000, 1, every + 1000 * i, 30000 + 5000 * (size_t)i);
            n_frames += read_file("part", parts + n_frames, 4 * N - n_frames, line);
            assert_string_equal(line, "");
            n_bytes += file_bytes("part", bytes + n_bytes, sizeof bytes - n_bytes);
        }
        write_file("joined", bytes, n_bytes);
        size_t n = read_file("joined", got, 8 * N, line);
        if (n != n_frames || line[0])
            fail_msg("%s: %zu frames instead of %zu; %s", joinable[f].name, n, n_frames, line);
        assert_memory_equal(got, parts, n * sizeof *got);
        /* tags between and behind */
        size_t half = file_bytes("part", bytes, sizeof bytes), all = half;
        if (f == 3) {
            memset(bytes + all, 'x', 138);
            memcpy(bytes + all, "TAG", 3), memcpy(bytes + all + 128, "ID3\4\0\0\0\0\0\0", 10);
            all += 138;
        }
        memcpy(bytes + all, bytes, half), all += half;
        memcpy(bytes + all, "TAG", 3), memset(bytes + all + 3, 'x', 125), all += 128;
        write_file("joined", bytes, f == 3 ? all : all - 128);
        size_t one = read_file("part", parts, 4 * N, line);
        n = read_file("joined", got, 8 * N, line);
        if (n != 2 * one || line[0]) fail_msg("%s: %zu frames instead of %zu; %s", joinable[f].name, n, 2 * one, line);
    }
}

/* A part of another rate or number of channels is not read, and a line says so. */
static void test_joined_files_that_differ(void **state)
{
    static uint8_t bytes[2000000];
    char line[512];
    make_sines();
    for (int f = 0; f < JOINABLE; f++)
        for (int other = 0; other < 2; other++) {
            if (!writes(joinable[f].format)) continue;
            write_audio("a", joinable[f].format, 48000, 1, every, 30000);
            size_t n = file_bytes("a", bytes, sizeof bytes), frames = read_file("a", got, 8 * N, line);
            write_audio("b", joinable[f].format, other ? 48000 : 24000, other ? 2 : 1, every, 15000);
            n += file_bytes("b", bytes + n, sizeof bytes - n);
            write_file("joined", bytes, n);
            size_t read = read_file("joined", got, 8 * N, line);
            if (read != frames) fail_msg("%s, %d: %zu of %zu; '%s'", joinable[f].name, other, read, frames, line);
            if (!strstr(line, other ? "channels: 2, instead of" : "24000 Hz, channels: 1, instead of") ||
                !strstr(line, "/joined -f wav - | surtitle -"))
                fail_msg("%s: '%s'", joinable[f].name, line);
        }
}

static void test_cut_files(void **state)
{
    static const int formats[] = {SF_FORMAT_FLAC | SF_FORMAT_PCM_16,   SF_FORMAT_OGG | SF_FORMAT_VORBIS,
                                  SF_FORMAT_OGG | SF_FORMAT_OPUS,      SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III,
                                  SF_FORMAT_AIFF | SF_FORMAT_PCM_16,   SF_FORMAT_AU | SF_FORMAT_PCM_16,
                                  SF_FORMAT_CAF | SF_FORMAT_PCM_16,    SF_FORMAT_W64 | SF_FORMAT_PCM_16,
                                  SF_FORMAT_WAV | SF_FORMAT_PCM_16,    SF_FORMAT_WAV | SF_FORMAT_ULAW,
                                  SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM, SF_FORMAT_RF64 | SF_FORMAT_PCM_24};
    static uint8_t bytes[400000];
    char line[512];
    make_sines();
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
        for (int part = 1; part <= 3; part++) {
            if (!writes(formats[f])) continue;
            write_audio("whole", formats[f], 48000, 1, every, N);
            size_t whole = read_file("whole", got, 8 * N, line);
            assert_string_equal(line, "");
            size_t n = file_bytes("whole", bytes, sizeof bytes);
            write_file("cut", bytes, part == 3 ? n - 200 : n * (size_t)part / 3);
            size_t frames = read_file("cut", got, 8 * N, line);
            if (!strstr(line, "is cut") || frames + 48000 < whole * (size_t)part / 3)
                fail_msg("format %x, %d/3: %zu of %zu frames, '%s'", formats[f], part, frames, whole, line);
        }
}

/* Data that is not sound behind what libsndfile reads. */
static void test_behind_other_files(void **state)
{
    static const int formats[] = {SF_FORMAT_AIFF | SF_FORMAT_PCM_16, SF_FORMAT_AU | SF_FORMAT_PCM_16,
                                  SF_FORMAT_W64 | SF_FORMAT_PCM_16, SF_FORMAT_WAV | SF_FORMAT_IMA_ADPCM};
    static uint8_t bytes[400000];
    char line[512];
    make_sines();
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        write_audio("one", formats[f], 48000, 1, every, 10000);
        size_t n = file_bytes("one", bytes, sizeof bytes), frames = read_file("one", got, 8 * N, line);
        assert_string_equal(line, "");
        memcpy(bytes + n, bytes, n);
        write_file("two", bytes, 2 * n);
        assert_int_equal(read_file("two", got, 8 * N, line), frames);
        if (!strstr(line, "more than its header says")) fail_msg("format %x: '%s'", formats[f], line);
    }
}

/* cat a.flac b.ogg and the like: the first is read, and the second is named. */
static void test_joined_kinds(void **state)
{
    static const char *const said[] = {"FLAC", "Ogg", "Ogg", "MPEG audio"};
    static uint8_t bytes[2000000];
    char line[512];
    make_sines();
    for (int a = 0; a < JOINABLE; a++)
        for (int b = 0; b <= JOINABLE; b++) {
            int format = b < JOINABLE ? joinable[b].format : SF_FORMAT_WAV | SF_FORMAT_PCM_16;
            const char *name = b < JOINABLE ? said[b] : "WAV";
            if (!writes(joinable[a].format) || !writes(format) || strcmp(said[a], name) == 0) continue;
            write_audio("a", joinable[a].format, 48000, 1, every, 30000);
            write_audio("b", format, 48000, 1, every, 30000);
            size_t n = file_bytes("a", bytes, sizeof bytes), frames = read_file("a", got, 8 * N, line);
            n += file_bytes("b", bytes + n, sizeof bytes - n);
            write_file("joined", bytes, n);
            size_t read = read_file("joined", got, 8 * N, line);
            char want[80];
            snprintf(want, sizeof want, "continues after 0.6 s with %s, which is not read", name);
            if (read != frames || !strstr(line, want))
                fail_msg("%s, %s: %zu of %zu, '%s'", joinable[a].name, name, read, frames, line);
        }
}

/* The first was cut before the join: the second is read whole, and the cut is reported. */
static void test_joined_to_a_cut_file(void **state)
{
    static uint8_t bytes[2000000];
    char line[512];
    make_sines();
    for (int f = 0; f < 2; f++) { /* the sound of so short an Opus is one page */
        if (!writes(joinable[f].format)) continue;
        write_audio("a", joinable[f].format, 48000, 1, every, N);
        size_t n = file_bytes("a", bytes, sizeof bytes), frames = read_file("a", got, 8 * N, line);
        memmove(bytes + n * 2 / 3, bytes, n);
        write_file("joined", bytes, n * 2 / 3 + n);
        size_t read = read_file("joined", got, 8 * N, line);
        if (read < frames || read > 2 * frames || !strstr(line, "is cut or damaged"))
            fail_msg("%s: %zu of %zu frames, '%s'", joinable[f].name, read, frames, line);
    }
}

/* flac --keep-foreign-metadata: the WAV's header is in a block of the FLAC's. */
static void test_wav_header_in_flac(void **state)
{
    static const uint8_t block[] = {2, 0, 0, 20, 'r', 'i', 'f', 'f', 'R', 'I', 'F', 'F',
                                    0, 1, 0, 0,  'W', 'A', 'V', 'E', 'f', 'm', 't', ' '};
    static uint8_t bytes[400000];
    char line[512];
    if (!writes(joinable[0].format)) skip();
    write_audio("one", joinable[0].format, 48000, 1, every, 10000);
    size_t n = file_bytes("one", bytes, sizeof bytes), frames = read_file("one", got, 8 * N, line);
    memmove(bytes + 42 + sizeof block, bytes + 42, n - 42);
    memcpy(bytes + 42, block, sizeof block);
    write_file("kept", bytes, n + sizeof block);
    assert_int_equal(read_file("kept", got, 8 * N, line), frames);
    assert_string_equal(line, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_joined_files),         cmocka_unit_test(test_joined_files_that_differ),
        cmocka_unit_test(test_joined_kinds),         cmocka_unit_test(test_wav_header_in_flac),
        cmocka_unit_test(test_joined_to_a_cut_file), cmocka_unit_test(test_cut_files),
        cmocka_unit_test(test_behind_other_files),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
