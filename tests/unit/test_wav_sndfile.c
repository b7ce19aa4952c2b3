/* Our WAV reader against libsndfile: the same samples from generated files, and from files with a few changed bytes the
 * same beginning whenever both recognise the file as the same kind. Arguments: rounds (200), seed (1). */
#include <math.h>

#include "source_files.h"

enum { MOST_BYTES = 20000 };

static int rounds = 200;
static uint32_t seed = 1;

static uint32_t below(uint32_t n)
{
    seed = seed * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(seed >> 4) * n >> 28);
}

/* ---- generated files ---- */

struct wav_file {
    size_t n, fmt; /* fmt: where its content begins */
    bool big;
    uint8_t bytes[MOST_BYTES];
};

static void put(struct wav_file *w, const void *p, size_t n)
{
    memcpy(w->bytes + w->n, p, n);
    w->n += n;
}

static void put_number(struct wav_file *w, uint32_t v, int n)
{
    for (int i = 0; i < n; i++) w->bytes[w->n++] = (uint8_t)(v >> 8 * (w->big ? n - 1 - i : i));
}

static void put_junk(struct wav_file *w)
{
    static const char names[][5] = {"LIST", "JUNK", "bext", "PAD ", "cue "};
    uint32_t n = below(40);
    put(w, names[1 + below(3)], 4);
    put_number(w, n, 4);
    for (uint32_t i = 0; i < n + (n & 1); i++) put(w, &(uint8_t){(uint8_t)(i < n ? below(256) : 0)}, 1);
}

static const struct {
    uint32_t tag, bits, bytes;
} codings[] = {{1, 8, 1},  {1, 16, 2}, {1, 24, 3}, {1, 32, 4}, {3, 32, 4},
               {3, 64, 8}, {6, 8, 1},  {7, 8, 1},  {1, 12, 2}, {1, 20, 3}};

static void make(struct wav_file *w)
{
    uint32_t coding = below(sizeof codings / sizeof *codings), channels = 1 + below(6), frames = 1 + below(100);
    uint32_t bytes = codings[coding].bytes, frame = channels * bytes, tag = codings[coding].tag;
    bool extended = codings[coding].bits % 8 == 0 && below(3) == 0;
    *w = (struct wav_file){.big = tag != 6 && tag != 7 && below(4) == 0};
    put(w, w->big ? "RIFX" : "RIFF", 4);
    put_number(w, 0, 4);
    put(w, "WAVE", 4);
    if (below(2)) put_junk(w);
    put(w, "fmt ", 4);
    put_number(w, extended ? 40 : 16, 4);
    w->fmt = w->n;
    put_number(w, extended ? 0xFFFE : tag, 2);
    put_number(w, channels, 2);
    put_number(w, 1000 + below(95000), 4);
    put_number(w, 16000 * frame, 4);
    put_number(w, frame, 2);
    put_number(w, codings[coding].bits, 2);
    if (extended) {
        put_number(w, 22, 2);
        put_number(w, codings[coding].bits, 2);
        put_number(w, 0, 4);
        put_number(w, tag, 4);
        put_number(w, 0x100000, 4);
        if (w->big) w->bytes[w->n - 4] = 0, w->bytes[w->n - 3] = 0, w->bytes[w->n - 2] = 0, w->bytes[w->n - 1] = 0x10;
        put(w, "\x80\0\0\xAA\0\x38\x9B\x71", 8);
    }
    if (below(2)) put_junk(w);
    put(w, "data", 4);
    put_number(w, frames * frame, 4);
    for (uint32_t i = 0; i < frames * frame; i++) put(w, &(uint8_t){(uint8_t)below(256)}, 1);
    if (frames * frame & 1) put(w, "", 1);
    if (below(2)) put_junk(w);
    size_t n = w->n;
    w->n = 4;
    put_number(w, (uint32_t)n - 8, 4);
    w->n = n;
}

/* ---- two readers ---- */

struct result {
    int rate, channels;
    ptrdiff_t frames; /* -1: it does not open */
    float samples[MOST_BYTES];
};

static void read_by_sndfile(struct result *r)
{
    SF_INFO info = {0};
    SNDFILE *f = sf_open(path, SFM_READ, &info);
    r->frames = -1;
    if (!f) return;
    r->rate = info.samplerate;
    r->channels = info.channels;
    r->frames =
        info.channels > 0 && info.channels <= 64 ? sf_readf_float(f, r->samples, MOST_BYTES / info.channels) : -1;
    for (ptrdiff_t i = 0; i < r->frames * r->channels; i++)
        if (!isfinite(r->samples[i])) r->samples[i] = 0;
    sf_close(f);
}

static void read_by_ours(struct result *r)
{
    struct source s = {0};
    ptrdiff_t n;
    r->frames = -1;
    if (source_file_open(&s, path, &none) != SOURCE_OK) return;
    r->rate = s.rate;
    r->channels = s.channels;
    r->frames = 0;
    while ((n = s.read(&s, r->samples + r->frames * r->channels, (size_t)(MOST_BYTES / r->channels - r->frames))) > 0)
        r->frames += n;
    s.close(&s);
}

static struct result theirs, ours;
static struct wav_file file;

static void show_beginning(void)
{
    for (size_t i = 0; i < file.n && i < 96; i++) print_message("%02x%s", file.bytes[i], i % 16 == 15 ? "\n" : " ");
    print_message("\n");
}

static void expect_same_beginning(ptrdiff_t frames, int round)
{
    for (ptrdiff_t i = 0; i < frames * ours.channels; i++)
        if (memcmp(&ours.samples[i], &theirs.samples[i], sizeof(float)) != 0 && ours.samples[i] != theirs.samples[i]) {
            show_beginning();
            fail_msg("round %d: sample %td is %g, libsndfile says %g (%s)", round, i, ours.samples[i],
                     theirs.samples[i], path);
        }
}

static void test_generated(void **state)
{
    for (int i = 0; i < rounds; i++) {
        make(&file);
        write_file("x.wav", file.bytes, file.n);
        read_by_sndfile(&theirs);
        read_by_ours(&ours);
        if (ours.frames != theirs.frames || ours.rate != theirs.rate || ours.channels != theirs.channels)
            fail_msg("round %d: %td frames, %d Hz, channels: %d; libsndfile: %td, %d, %d", i, ours.frames, ours.rate,
                     ours.channels, theirs.frames, theirs.rate, theirs.channels);
        expect_same_beginning(ours.frames, i);
    }
}

static unsigned number(const uint8_t *p, bool big)
{
    return big ? p[0] << 8 | p[1] : p[1] << 8 | p[0];
}

/* A header whose samples have more bytes than their bits need, other than 24 bits in 4: libsndfile uses the bits, we
 * use the size of a frame. */
static bool is_ambiguous(void)
{
    const bool big = memcmp(file.bytes, "RIFX", 4) == 0;
    for (size_t i = 12; i + 24 <= file.n; i++) {
        if (memcmp(file.bytes + i, "fmt ", 4) != 0) continue;
        const unsigned channels = number(file.bytes + i + 10, big), frame = number(file.bytes + i + 20, big),
                       bits = number(file.bytes + i + 22, big), need = (bits + 7) / 8 * channels;
        return frame != need && !(bits == 24 && frame == 4 * channels);
    }
    return false;
}

static void test_mutated(void **state)
{
    int compared = 0;
    for (int i = 0; i < rounds; i++) {
        make(&file);
        for (uint32_t k = 1 + below(3); k > 0; k--)
            file.bytes[below(below(2) && file.n > 60 ? 60 : (uint32_t)file.n)] = (uint8_t)below(256);
        if (file.n > 60 && below(4) == 0) file.n -= below((uint32_t)file.n - 60);
        write_file("x.wav", file.bytes, file.n);
        read_by_sndfile(&theirs);
        read_by_ours(&ours);
        if (ours.frames < 0 || theirs.frames < 0 || ours.rate != theirs.rate || ours.channels != theirs.channels ||
            is_ambiguous())
            continue;
        expect_same_beginning(ours.frames < theirs.frames ? ours.frames : theirs.frames, i);
        compared++;
    }
    assert_true(compared > rounds / 10);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_generated), cmocka_unit_test(test_mutated)};
    if (argc > 1) rounds = atoi(argv[1]);
    if (argc > 2) seed = (uint32_t)atoi(argv[2]);
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
