/* The WAV reader: every format, every order of chunks, every way to cut the bytes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "input/wav.h"

static uint32_t seed = 1;

static uint32_t next_random(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

/* ---- writing ------------------------------------------------------------------------------------------------------
 */

struct bytes {
    size_t n;
    uint8_t data[8192];
};

static void put(struct bytes *b, const void *p, size_t n)
{
    assert_true(b->n + n <= sizeof b->data);
    memcpy(b->data + b->n, p, n);
    b->n += n;
}

static void put_le(struct bytes *b, uint64_t v, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) put(b, &(uint8_t){(uint8_t)(v >> 8 * i)}, 1);
}

static void put_head(struct bytes *b, const char *riff)
{
    put(b, riff, 4);
    put_le(b, UINT32_MAX, 4);
    put(b, "WAVE", 4);
}

static void put_chunk(struct bytes *b, const char *name, uint32_t size, const void *body)
{
    put(b, name, 4);
    put_le(b, size, 4);
    put(b, body, size);
    if (size & 1) put_le(b, 0, 1);
}

static void put_format(struct bytes *b, uint32_t tag, uint32_t channels, uint32_t rate, uint32_t bits,
                       uint32_t extended)
{
    put(b, "fmt ", 4);
    put_le(b, extended ? 40 : 16, 4);
    put_le(b, extended ? 0xFFFE : tag, 2);
    put_le(b, channels, 2);
    put_le(b, rate, 4);
    put_le(b, (uint64_t)rate * channels * bits / 8, 4);
    put_le(b, channels * bits / 8, 2);
    put_le(b, bits, 2);
    if (!extended) return;
    put_le(b, 22, 2);
    put_le(b, bits, 2);
    put_le(b, 0, 4);
    put_le(b, tag, 2);
    put(b, "\0\0\0\0\x10\0\x80\0\0\xAA\0\x38\x9B\x71", 14);
}

static void put_data(struct bytes *b, uint32_t size_said, const void *body, size_t n)
{
    put(b, "data", 4);
    put_le(b, size_said, 4);
    put(b, body, n);
}

/* ---- reading ------------------------------------------------------------------------------------------------------
 */

enum { ROOM = 4096 };

/* Pushes all of b in pieces (0: whole, 1: one by one, else random up to most) with room for max_samples per call.
 * Returns the frames, or -1 if wav_push or wav_end failed. */
static ptrdiff_t parse(struct wav *wav, const struct bytes *b, size_t most, size_t max_samples, float *out)
{
    wav_init(wav);
    size_t at = 0, frames = 0;
    for (;;) {
        size_t piece = most == 0 ? b->n : most == 1 ? 1 : 1 + next_random() % most, used = 0;
        if (piece > b->n - at) piece = b->n - at;
        uint8_t *copy = malloc(piece + !piece); /* a block of its own, so that a read past its end is detected */
        memcpy(copy, b->data + at, piece);
        size_t had = wav->started ? frames * (size_t)wav->channels : 0, room = max_samples;
        if (room > ROOM - had) room = ROOM - had;
        ptrdiff_t n = wav_push(wav, copy, piece, &used, out + had, room);
        free(copy);
        if (n < 0) return -1;
        assert_true(used <= piece);
        assert_true(n * (wav->started ? wav->channels : 0) <= (ptrdiff_t)room);
        at += used, frames += (size_t)n;
        if (used > 0 || n > 0) continue;
        if (at < b->n) fail_msg("no way forward at byte %zu", at);
        break;
    }
    return wav_end(wav) < 0 ? -1 : (ptrdiff_t)frames;
}

/* Asserts that the frames are the same in any pieces; returns their number. */
static ptrdiff_t check(const struct bytes *b, struct wav *wav, float *out)
{
    static float again[ROOM];
    ptrdiff_t frames = parse(wav, b, 0, ROOM, out);
    static const size_t most[] = {1, 2, 3, 7, 50, 400};
    for (size_t i = 0; i < sizeof most / sizeof *most; i++) {
        struct wav other;
        size_t room = frames > 0 ? (size_t)wav->channels * (1 + next_random() % 5) : ROOM;
        assert_int_equal(parse(&other, b, most[i], room, again), frames);
        assert_string_equal(other.error, wav->error);
        if (frames < 0) continue;
        assert_int_equal(other.rate, wav->rate);
        assert_int_equal(other.channels, wav->channels);
        assert_memory_equal(again, out, (size_t)frames * (size_t)wav->channels * sizeof *out);
    }
    return frames;
}

static float got[ROOM];

static void expect_error(const struct bytes *b, const char *part)
{
    struct wav wav;
    if (check(b, &wav, got) >= 0 || !strstr(wav.error, part)) fail_msg("'%s' does not say '%s'", wav.error, part);
}

/* ---- tests --------------------------------------------------------------------------------------------------------
 */

static const int16_t pcm[8] = {0, 1, -1, 32767, -32768, 1000, -1000, 5};

static void expect_pcm(const struct bytes *b, size_t frames)
{
    struct wav wav;
    assert_int_equal(check(b, &wav, got), frames);
    assert_int_equal(wav.rate, 16000);
    assert_int_equal(wav.channels, 1);
    assert_int_equal(wav.format.bytes, 2);
    for (size_t i = 0; i < frames && i < 8; i++) assert_true(got[i] == (float)pcm[i] / 32768);
}

static void test_plain(void **state)
{
    struct bytes b = {0};
    put_head(&b, "RIFF");
    put_format(&b, 1, 1, 16000, 16, 0);
    put_data(&b, 16, pcm, 16);
    expect_pcm(&b, 8);
    put_chunk(&b, "LIST", 10, "INFOxxxxxx"); /* what follows is not audio */
    expect_pcm(&b, 8);
}

/* Chunks behind 16 bytes of data whose header says `size`. */
static struct bytes with_tail(uint32_t size, const void *tail, size_t n)
{
    struct bytes b = {0};
    put_head(&b, "RIFF");
    put_format(&b, 1, 1, 16000, 16, 0);
    put_data(&b, size, pcm, 16);
    put(&b, tail, n);
    return b;
}

static void test_what_stands_behind_the_data(void **state)
{
    static const struct {
        const char *tail;
        size_t n;
    } no_sound[] = {{"LIST\4\0\0\0INFO", 12},
                    {"LIST\3\0\0\0INF\0id3 \2\0\0\0xy", 22},
                    {"LIST\3\0\0\0INFid3 \2\0\0\0xy", 21}, /* not padded */
                    {"ID3\4\0\0\0\0\0\0and more that is no sound", 34},
                    {"TAGthis is ID3v1", 16},
                    {"bext\0\0\0\0\1\2\3\4\5\6\7\1\2\3\4", 20}, /* not a chunk behind a chunk */
                    {"LIST\xff\xff\xff\x7fINFO", 12},
                    {"\1\0", 2}};
    for (size_t i = 0; i < sizeof no_sound / sizeof *no_sound; i++) {
        struct bytes b = with_tail(16, no_sound[i].tail, no_sound[i].n);
        expect_pcm(&b, 8);
    }
    struct bytes b = with_tail(15, "\0LIST\4\0\0\0INFO", 13); /* the pad is the last byte of the 16 */
    struct wav wav;
    b.n -= 13;
    put(&b, "LIST\4\0\0\0INFO", 12);
    assert_int_equal(check(&b, &wav, got), 7);
    b = with_tail(16, pcm, 16); /* more sound: the recorder died */
    assert_int_equal(check(&b, &wav, got), 16);
    for (int i = 0; i < 16; i++) assert_true(got[i] == (float)pcm[i % 8] / 32768);
    b = with_tail(16, "data\x10\0\0\0", 8);
    put(&b, pcm, 16);
    assert_int_equal(check(&b, &wav, got), 16);
    for (int i = 0; i < 16; i++) assert_true(got[i] == (float)pcm[i % 8] / 32768);
    /* unknown names count if they fit into the RIFF size */
    for (int room = 0; room < 2; room++) {
        struct bytes c = with_tail(16, "abcd\4\0\0\0wxyz", 12);
        memset(c.data + 4, 0, 4);
        c.data[4] = (uint8_t)(c.n - 8 - (room ? 0 : 12));
        assert_int_equal(check(&c, &wav, got), room ? 8 : 14);
    }
    /* of size 0, followed by a chunk: no sound */
    struct bytes d = {0};
    put_head(&d, "RIFF");
    put_format(&d, 1, 1, 16000, 16, 0);
    put_data(&d, 0, "LIST\4\0\0\0INFO", 12);
    assert_int_equal(check(&d, &wav, got), 0);
}

static void test_another_wav_behind_the_first(void **state)
{
    static const uint32_t sizes[] = {16, 0, UINT32_MAX, 6};
    struct wav wav;
    for (size_t i = 0; i < 16; i++) {
        struct bytes b = {0};
        put_head(&b, i & 8 ? "RF64" : "RIFF");
        put_format(&b, 1, 1, 16000, 16, 0);
        put_data(&b, sizes[i % 4], pcm, 16);
        if (i & 4) put_chunk(&b, "LIST", 4, "INFO");
        if (i & 4 && sizes[i % 4] != 16) continue; /* in endless data chunks are not seen */
        put_head(&b, "RIFF");
        put_chunk(&b, "JUNK", 3, "abc");
        put_format(&b, 3, 1, 16000, 32, 0); /* another coding may follow */
        put_data(&b, 8, (float[2]){0.25f, -0.5f}, 8);
        ptrdiff_t n = check(&b, &wav, got), more = sizes[i % 4] == 16 ? 0 : 6; /* 12 bytes were read as sound */
        assert_int_equal(n, 10 + more);
        for (int k = 0; k < 8; k++) assert_true(got[k] == (float)pcm[k] / 32768);
        assert_true(got[n - 2] == 0.25f && got[n - 1] == -0.5f);
    }
    struct bytes b = with_tail(16, "", 0), c = b;
    put_head(&b, "RIFF");
    put_format(&b, 1, 1, 48000, 16, 0);
    put_data(&b, 16, pcm, 16);
    expect_error(&b, "another WAV begins, of 48000 Hz, channels: 1");
    put_head(&c, "RIFF");
    expect_error(&c, "another WAV behind its data has no data");
}

static void test_big_endian(void **state)
{
    struct bytes b = {0};
    static const uint8_t head[44] = "RIFX\0\0\0\x34WAVEfmt \0\0\0\x10\0\1\0\1\0\0\x3e\x80\0\0\x7d\0\0\2\0\x10"
                                    "data\0\0\0\x10";
    put(&b, head, 44);
    for (int i = 0; i < 8; i++) put(&b, (uint8_t[2]){(uint8_t)(pcm[i] >> 8), (uint8_t)pcm[i]}, 2);
    expect_pcm(&b, 8);
    put(&b, b.data, b.n); /* twice */
    expect_pcm(&b, 16);
}

static void test_chunks_in_any_order(void **state)
{
    struct bytes b = {0};
    put_head(&b, "RIFF");
    put_chunk(&b, "LIST", 7, "odd one"); /* padded */
    put_chunk(&b, "JUNK", 0, "");
    put_format(&b, 1, 1, 16000, 16, 0);
    put_chunk(&b, "fact", 4, "abcd");
    put_chunk(&b, "bext", 301, (uint8_t[301]){0});
    put_data(&b, 16, pcm, 16);
    expect_pcm(&b, 8);
}

static void test_sizes_that_mean_to_the_end(void **state)
{
    static const uint32_t sizes[] = {0, UINT32_MAX, 0x7FFFF000, 0x80000000u, 2, 8, 7};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct bytes b = {0};
        put_head(&b, "RIFF");
        put_format(&b, 1, 1, 16000, 16, 0);
        put_data(&b, sizes[i], pcm, 16);
        expect_pcm(&b, 8);
        put_le(&b, 7, 1); /* a partial last frame */
        expect_pcm(&b, 8);
    }
}

/* Sizes that the input does not reach, except for the last frame. */
static void test_cut(void **state)
{
    static const uint32_t sizes[] = {16, 17, 18, 1000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct bytes b = {0};
        struct wav wav;
        put_head(&b, "RIFF");
        put_format(&b, 1, 1, 1000, 16, 0);
        put_data(&b, sizes[i], pcm, 16);
        if (sizes[i] < 18) {
            assert_int_equal(check(&b, &wav, got), 8);
            continue;
        }
        expect_error(&b, sizes[i] == 1000 ? "cut: it ends after 0.0 s of 0.5" : "it is cut");
    }
}

static void test_rf64(void **state)
{
    static const uint64_t sizes[] = {16, 8, 0, UINT64_MAX};
    for (size_t i = 0; i < 8; i++) {
        struct bytes b = {0}, ds64 = {0};
        put_le(&ds64, 1000, 8);
        put_le(&ds64, sizes[i % 4], 8);
        put_le(&ds64, 8, 8);
        put_le(&ds64, 0, 4);
        put_head(&b, i < 4 ? "RF64" : "BW64");
        put_chunk(&b, "ds64", 28, ds64.data);
        put_format(&b, 1, 1, 16000, 16, 0);
        put_data(&b, UINT32_MAX, pcm, 16);
        expect_pcm(&b, 8); /* a size that is too small is ignored */
    }
    struct bytes b = {0}; /* none at all */
    put_head(&b, "RF64");
    put_format(&b, 1, 1, 16000, 16, 1);
    put_data(&b, UINT32_MAX, pcm, 16);
    expect_pcm(&b, 8);
}

static void test_every_width(void **state)
{
    static const struct {
        uint32_t tag, bits;
        uint8_t raw[16]; /* two frames of one channel */
        double want[2];
    } cases[] = {
        {1, 8, {0, 255}, {-1, 127.0 / 128}},
        {1, 16, {0, 0x80, 0xFF, 0x7F}, {-1, 32767.0 / 32768}},
        {1, 24, {0, 0, 0x80, 1, 0, 0}, {-1, 1.0 / 8388608}},
        {1, 32, {0, 0, 0, 0x80, 0, 0, 0, 0x40}, {-1, 0.5}},
        {3, 32, {0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0}, {1, -2}},
        {1, 12, {0, 0x80, 0xFF, 0x7F}, {-1, 32767.0 / 32768}},
        {1, 20, {0, 0, 0x80, 1, 0, 0}, {-1, 1.0 / 8388608}},
        {6, 8, {0xD5, 0x2A}, {8.0 / 32768, -32256.0 / 32768}},
        {7, 8, {0xFF, 0x00}, {0, -32124.0 / 32768}},
        {3, 64, {0, 0, 0, 0, 0, 0, 0xF0, 0x3F, 0, 0, 0, 0, 0, 0, 0xE0, 0xBF}, {1, -0.5}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint32_t extended = 0; extended < 2; extended++)
            for (uint32_t channels = 1; channels <= 2; channels++) {
                struct bytes b = {0};
                struct wav wav;
                put_head(&b, "RIFF");
                put_format(&b, cases[i].tag, channels, 48000, cases[i].bits, extended);
                uint32_t bytes = (cases[i].bits + 7) / 8;
                put_data(&b, 2 * bytes, cases[i].raw, 2 * bytes);
                assert_int_equal(check(&b, &wav, got), 2 / channels);
                assert_int_equal(wav.channels, channels);
                assert_int_equal(wav.format.bytes, bytes);
                assert_int_equal(wav.format.coding == PCM_FLOAT, cases[i].tag == 3);
                for (int k = 0; k < 2; k++) assert_true(got[k] == (float)cases[i].want[k]);
            }
}

static void test_not_finite_is_zero(void **state)
{
    float f[6] = {NAN, INFINITY, -INFINITY, 0.5f, -NAN, 1e30f};
    double d[6] = {NAN, INFINITY, -INFINITY, 0.5, 1e300, 1e30};
    struct wav wav;
    struct bytes b = {0}, c = {0};
    put_head(&b, "RIFF");
    put_format(&b, 3, 1, 16000, 32, 0);
    put_data(&b, sizeof f, f, sizeof f);
    put_head(&c, "RIFF");
    put_format(&c, 3, 1, 16000, 64, 0);
    put_data(&c, sizeof d, d, sizeof d);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(check(i ? &c : &b, &wav, got), 6);
        for (int k = 0; k < 5; k++) assert_true(got[k] == (k == 3 ? 0.5f : 0));
        assert_true(got[5] == 1e30f);
    }
}

static void test_many_channels(void **state)
{
    struct bytes b = {0};
    struct wav wav;
    double frame[64];
    for (int c = 0; c < 64; c++) frame[c] = c;
    put_head(&b, "RIFF");
    put_format(&b, 3, 64, 192000, 64, 1);
    put_data(&b, 0, frame, sizeof frame);
    put(&b, frame, sizeof frame);
    assert_int_equal(check(&b, &wav, got), 2);
    for (int c = 0; c < 128; c++) assert_true(got[c] == (float)(c % 64));
}

static void test_header_before_frames(void **state)
{
    struct bytes b = {0};
    struct wav wav;
    size_t used = 0;
    put_head(&b, "RIFF");
    put_format(&b, 1, 2, 44100, 16, 0);
    put_data(&b, 16, pcm, 16);
    wav_init(&wav);
    assert_int_equal(wav_push(&wav, b.data, b.n, &used, NULL, 0), 0);
    assert_int_equal(wav.state, WAV_DATA);
    assert_int_equal(used, b.n - 16);
    assert_int_equal(wav.rate, 44100);
    assert_int_equal(wav.channels, 2);
    assert_int_equal(wav_push(&wav, b.data + used, 16, &used, got, 3), 1); /* room for one frame and a half */
    assert_int_equal(used, 4);
}

static void test_what_is_refused(void **state)
{
    static const struct {
        uint32_t tag, channels, rate, bits;
        const char *part;
    } cases[] = {
        {2, 1, 16000, 4, "MS ADPCM"},    {0x11, 1, 16000, 4, "IMA ADPCM"},
        {0x55, 1, 16000, 0, "MP3"},      {0x1234, 1, 16000, 16, "0x1234"},
        {1, 1, 16000, 0, "0 bits"},      {1, 1, 16000, 33, "33 bits"},
        {1, 1, 16000, 64, "64 bits"},    {3, 1, 16000, 16, "float of 16"},
        {1, 0, 16000, 16, "0 channels"}, {1, 65, 16000, 16, "65 channels"},
        {1, 1, 0, 16, "0 Hz"},           {1, 1, 4000000000u, 16, "4000000000 Hz"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (uint32_t extended = 0; extended < 2; extended++) {
            struct bytes b = {0};
            put_head(&b, "RIFF");
            put_format(&b, cases[i].tag, cases[i].channels, cases[i].rate, cases[i].bits, extended);
            put_data(&b, 16, pcm, 16);
            expect_error(&b, cases[i].part);
        }
}

static void test_what_is_broken(void **state)
{
    struct bytes b = {0}, c = {0}, d = {0}, e = {0}, f = {0};
    put_head(&b, "RIFY");
    expect_error(&b, "does not begin as a WAV");
    put_head(&c, "RIFF");
    put_data(&c, 16, pcm, 16);
    expect_error(&c, "before the fmt chunk");
    put_head(&d, "RIFF");
    put_chunk(&d, "fmt ", 14, "\1\0\1\0\0\0\0\0\0\0\0\0\2");
    expect_error(&d, "14 bytes");
    put_head(&e, "RIFF");
    put_format(&e, 1, 1, 16000, 16, 0);
    expect_error(&e, "ends before its data");
    e.n = 11;
    expect_error(&e, "ends before its data");
    put_head(&f, "RIFF");
    put_format(&f, 1, 1, 16000, 16, 1);
    f.data[50]++; /* in the GUID */
    put_data(&f, 16, pcm, 16);
    expect_error(&f, "unknown subformat");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_chunks_in_any_order),
        cmocka_unit_test(test_what_stands_behind_the_data),
        cmocka_unit_test(test_another_wav_behind_the_first),
        cmocka_unit_test(test_big_endian),
        cmocka_unit_test(test_sizes_that_mean_to_the_end),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_rf64),
        cmocka_unit_test(test_every_width),
        cmocka_unit_test(test_not_finite_is_zero),
        cmocka_unit_test(test_many_channels),
        cmocka_unit_test(test_header_before_frames),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_what_is_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
