#include "input/wav.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TAG_PCM = 1, TAG_FLOAT = 3, TAG_ALAW = 6, TAG_MULAW = 7, TAG_EXTENSIBLE = 0xFFFE };
enum { STREAMED = 0x7FFFF000 }; /* sizes from here on are written by programs that do not know the size */

static uint32_t number16(const struct wav *wav, const uint8_t *p)
{
    return wav->big_endian ? (uint32_t)p[0] << 8 | p[1] : p[0] | (uint32_t)p[1] << 8;
}

static uint32_t number32(const struct wav *wav, const uint8_t *p)
{
    return wav->big_endian ? number16(wav, p) << 16 | number16(wav, p + 2)
                           : number16(wav, p) | number16(wav, p + 2) << 16;
}

static bool is_name(const uint8_t *p, const char *name)
{
    return memcmp(p, name, 4) == 0;
}

static int __attribute__((format(printf, 2, 3))) failed(struct wav *wav, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(wav->error, sizeof wav->error, format, args);
    va_end(args);
    wav->state = WAV_FAILED;
    return -1;
}

static void want(struct wav *wav, enum wav_state state, size_t n)
{
    wav->state = state;
    wav->held = 0;
    wav->wanted = n;
}

/* ---- fmt ---- */

static const char *tag_name(uint32_t tag)
{
    static const struct {
        uint32_t tag;
        const char *name;
    } known[] = {
        {0x02, "MS ADPCM"}, {0x11, "IMA ADPCM"}, {0x31, "GSM 6.10"}, {0x50, "MPEG audio"}, {0x55, "MP3"},
        {0xFF, "AAC"},      {0x160, "WMA"},      {0x161, "WMA"},     {0x2000, "AC-3"},     {0xF1AC, "FLAC"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].tag == tag) return known[i].name;
    return "an unknown format";
}

/* EXTENSIBLE has a GUID: two bytes of format tag, and the rest of the GUIDs of media subtypes, or of ambisonic audio.
 */
static bool is_media_subtype(const uint8_t *guid)
{
    static const uint8_t rest[2][14] = {{0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71},
                                        {0, 0, 0x21, 7, 0xD3, 0x11, 0x86, 0x44, 0xC8, 0xC1, 0xCA, 0, 0, 0}};
    return memcmp(guid + 2, rest[0], 14) == 0 || memcmp(guid + 2, rest[1], 14) == 0;
}

/* Integers are left-justified in their bytes, whatever `bits` says; 17 to 24 bits may be in 4 bytes. */
static int read_coding(struct wav *wav, uint32_t tag, uint32_t bits, uint32_t frame_bytes, uint32_t channels)
{
    struct pcm_format f = {.big_endian = wav->big_endian};
    switch (tag) {
    case TAG_PCM:
        if (bits < 1 || bits > 32) return failed(wav, "it holds PCM of %u bits; 1 to 32 are read", (unsigned)bits);
        f.bytes = bits > 16 && frame_bytes == 4 * channels ? 4 : (int)(bits + 7) / 8;
        f.coding = f.bytes == 1 ? PCM_UNSIGNED : PCM_SIGNED;
        break;
    case TAG_FLOAT:
        if (bits != 32 && bits != 64)
            return failed(wav, "it holds float of %u bits; 32 and 64 are read", (unsigned)bits);
        f.bytes = (int)bits / 8;
        f.coding = PCM_FLOAT;
        break;
    case TAG_ALAW:
    case TAG_MULAW:
        f.bytes = 1;
        f.coding = tag == TAG_ALAW ? PCM_ALAW : PCM_MULAW;
        break;
    default:
        wav->unsupported = true;
        return failed(wav, "it holds %s (format 0x%04X), of which PCM, float, A-law and mu-law are read", tag_name(tag),
                      (unsigned)tag);
    }
    wav->format = f;
    return 0;
}

static int read_format(struct wav *wav, size_t n)
{
    const uint8_t *p = wav->hold;
    if (n < 16) return failed(wav, "its fmt chunk has %zu bytes; 16 are the least", n);
    uint32_t tag = number16(wav, p), channels = number16(wav, p + 2), rate = number32(wav, p + 4);
    uint32_t frame_bytes = number16(wav, p + 12), bits = number16(wav, p + 14);
    if (tag == TAG_EXTENSIBLE) {
        wav->unsupported = n < 40 || !is_media_subtype(p + 24);
        if (wav->unsupported) return failed(wav, "it is EXTENSIBLE with an unknown subformat");
        tag = number16(wav, p + 24);
    }
    if (channels < 1 || channels > SUR_CHANNELS_MAX)
        return failed(wav, "it has %u channels; 1 to %d are read", (unsigned)channels, SUR_CHANNELS_MAX);
    if (rate < SUR_RATE_MIN || rate > SUR_RATE_MAX)
        return failed(wav, "its rate is %u Hz; %d to %d are read", (unsigned)rate, SUR_RATE_MIN, SUR_RATE_MAX);
    if (wav->started && (wav->rate != (int)rate || wav->channels != (int)channels))
        return failed(
            wav, "behind %.1f s of %d Hz, channels: %d, another WAV begins, of %u Hz, channels: %u, which is not read",
            (double)wav->frames / wav->rate, wav->rate, wav->channels, (unsigned)rate, (unsigned)channels);
    wav->rate = (int)rate;
    wav->channels = (int)channels;
    wav->has_format = true;
    return read_coding(wav, tag, bits, frame_bytes, channels);
}

/* ---- chunks before the data ---- */

static bool starts_wav(const uint8_t *p)
{
    return is_name(p, "RIFF") || is_name(p, "RF64") || is_name(p, "BW64") || is_name(p, "RIFX");
}

/* Begins a WAV with its first 8 bytes; its "WAVE" was read, too. */
static void begin_wav(struct wav *wav, const uint8_t *p)
{
    wav->big_endian = is_name(p, "RIFX");
    wav->is_rf64 = is_name(p, "RF64") || is_name(p, "BW64");
    uint32_t size = number32(wav, p + 4);
    wav->riff_end = wav->is_rf64 || size >= STREAMED || size < 4 ? 0 : size - 4;
    wav->position = 0;
    wav->has_format = wav->has_data = wav->odd = false;
    wav->data_size = 0;
    want(wav, WAV_CHUNK, 8);
}

static void look_behind(struct wav *wav, bool odd, bool after_chunk)
{
    wav->state = WAV_AFTER_DATA;
    wav->n_ahead = wav->again = 0;
    wav->matched = 0;
    wav->odd = odd;
    wav->after_chunk = after_chunk;
}

static int begin_data(struct wav *wav, uint32_t size)
{
    if (!wav->has_format) return failed(wav, "its data chunk stands before the fmt chunk, which a stream cannot read");
    bool from_ds64 = wav->is_rf64 && size == UINT32_MAX && wav->data_size > 0 && wav->data_size < UINT64_MAX;
    wav->left = from_ds64 ? wav->data_size : wav->is_rf64 && size == UINT32_MAX ? UINT64_MAX : size;
    wav->endless = !from_ds64 && (size == 0 || size >= STREAMED);
    wav->odd = wav->left & 1 && wav->left != UINT64_MAX;
    wav->matched = 0;
    wav->has_data = wav->started = true;
    wav->n_ahead = wav->again = 0;
    want(wav, WAV_DATA, 0);
    return 0;
}

static void end_chunk(struct wav *wav, bool odd)
{
    if (wav->has_data) {
        look_behind(wav, odd, true);
    } else {
        wav->odd = odd;
        want(wav, WAV_CHUNK, 8);
    }
}

/* fmt and ds64 are read from their beginning; the rest is skipped. */
static int begin_chunk(struct wav *wav, const uint8_t *p)
{
    uint32_t size = number32(wav, p + 4);
    if (is_name(p, "data")) return begin_data(wav, size);
    bool format = is_name(p, "fmt ") && !wav->has_data, sizes = is_name(p, "ds64");
    size_t most = format ? 40 : sizes ? 16 : 0;
    wav->left = size;
    wav->odd = size & 1;
    want(wav, format ? WAV_FORMAT : sizes ? WAV_SIZES : WAV_SKIP, size < most ? size : most);
    if (size == 0 && !format) end_chunk(wav, false);
    return 0;
}

static bool is_printable(const uint8_t *p)
{
    for (int i = 0; i < 4; i++)
        if (p[i] < ' ' || p[i] > '~') return false;
    return true;
}

/* `hold` has the bytes wanted. Returns 0, or -1 on failure. */
static int gathered(struct wav *wav)
{
    size_t n = wav->wanted;
    const uint8_t *p = wav->hold;
    switch (wav->state) {
    case WAV_RIFF:
        if (!starts_wav(p) || !is_name(p + 8, "WAVE")) return failed(wav, "it does not begin as a WAV");
        begin_wav(wav, p);
        return 0;
    case WAV_CHUNK: /* some writers do not pad */
        if (wav->odd && n == 8 && !is_printable(p)) {
            wav->wanted = 9;
            return 0;
        }
        return begin_chunk(wav, p + (n - 8));
    case WAV_FORMAT:
        if (read_format(wav, n) < 0) return -1;
        break;
    case WAV_SIZES:
        if (n < 16) break;
        wav->riff_end = number32(wav, p) | (uint64_t)number32(wav, p + 4) << 32;
        if (wav->riff_end > INT64_MAX) wav->riff_end = 0;
        wav->data_size = number32(wav, p + 8) | (uint64_t)number32(wav, p + 12) << 32;
        break;
    default:
        break;
    }
    wav->left -= n;
    bool odd = wav->odd;
    want(wav, WAV_SKIP, 0);
    if (wav->left == 0) end_chunk(wav, odd);
    return 0;
}

/* ---- after the data ---- */

enum what { NO_CHUNK, CHUNK, TAGS, ANOTHER_WAV };

/* Whether 8 bytes after the data are a chunk: its name is one that writers put there, or the RIFF size covers it. */
static enum what classify(const struct wav *wav, const uint8_t *p)
{
    static const char known[][5] = {"data", "LIST", "list", "id3 ", "ID3 ", "bext", "iXML", "axml", "aXML", "_PMX",
                                    "cue ", "plst", "smpl", "inst", "acid", "strc", "fact", "PEAK", "levl", "JUNK",
                                    "junk", "JUNQ", "PAD ", "FLLR", "DISP", "afsp", "AFAn", "umid", "chna", "cart",
                                    "mext", "dbmd", "link", "regn", "minf", "elm1", "elmo", "ovwf", "labl", "note",
                                    "slnt", "wavl", "ds64", "guan", "SAUR", "CDif", "Fake", "CSET"};
    if (starts_wav(p)) return ANOTHER_WAV;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (is_name(p, known[i])) return CHUNK;
    if ((memcmp(p, "ID3", 3) == 0 && p[3] < 10) || memcmp(p, "TAG", 3) == 0) return TAGS;
    bool expected = wav->after_chunk || wav->position + 8 <= wav->riff_end + wav->n_ahead;
    return expected && is_printable(p) ? CHUNK : NO_CHUNK;
}

/* `ahead` has one more byte. Returns 0, or -1 on failure. */
static int check_after_data(struct wav *wav)
{
    if (wav->n_ahead < 8) return 0;
    const uint8_t *p = wav->ahead;
    enum what what = classify(wav, p);
    if (what == NO_CHUNK && wav->odd) { /* a byte of padding */
        if (wav->n_ahead < 9) return 0;
        what = classify(wav, ++p);
    }
    if (what == ANOTHER_WAV) {
        if (wav->n_ahead < (size_t)(p - wav->ahead) + 12) return 0;
        if (is_name(p + 8, "WAVE")) {
            begin_wav(wav, p);
            return 0;
        }
        what = NO_CHUNK;
    }
    bool ogg = memcmp(p, "OggS\0\2", 6) == 0;
    if (ogg || memcmp(p, "fLaC\0\0\0\x22", 8) == 0)
        return failed(wav, "behind %.1f s of it %s begins, which is not read", (double)wav->frames / wav->rate,
                      ogg ? "Ogg" : "FLAC");
    if (what == CHUNK) return begin_chunk(wav, p);
    if (what == TAGS || wav->after_chunk) {
        wav->state = WAV_DRAIN;
        return 0;
    }
    wav->state = WAV_DATA; /* the size was wrong */
    wav->left = UINT64_MAX;
    wav->endless = true;
    return 0;
}

/* Returns how many of n bytes there are up to the end of the next "RIFF....WAVE"; *matched: its bytes found so far. */
static size_t find_wav(const uint8_t *p, size_t n, size_t *matched, bool *big_endian)
{
    static const char pattern[13] = "RIFF....WAVE";
    size_t m = *matched, i = 0;
    for (; i < n && m < 12; i++) {
        if (m == 0) {
            const uint8_t *r = memchr(p + i, 'R', n - i);
            i = r ? (size_t)(r - p) : n;
            if (!r) break;
        }
        bool any = m >= 4 && m < 8, fits = any || p[i] == (uint8_t)pattern[m] || (m == 3 && p[i] == 'X');
        if (m == 3) *big_endian = p[i] == 'X';
        m = fits ? m + 1 : p[i] == 'R' ? 1 : 0;
    }
    *matched = m;
    return i;
}

/* Another WAV begins where no size ends this one. */
static void begin_found_wav(struct wav *wav)
{
    uint8_t header[8] = {'R', 'I', 'F', wav->found_big_endian ? 'X' : 'F'};
    begin_wav(wav, header);
    wav->riff_end = 0;
}

/* ---- data ---- */

static void convert(struct wav *wav, const uint8_t *p, size_t n_frames, float *out)
{
    pcm_convert(&wav->format, p, n_frames * (size_t)wav->channels, out);
    wav->frames += n_frames;
}

/* Converts up to n bytes of data to frames. */
static size_t push_data(struct wav *wav, const uint8_t *bytes, size_t n, size_t *n_used, float *out, size_t max)
{
    size_t channels = (size_t)wav->channels, frame = channels * (size_t)wav->format.bytes, used = 0, frames = 0;
    size_t seen = wav->matched;
    bool unused = false;
    if (n > wav->left) n = (size_t)wav->left;
    if (wav->endless) n = find_wav(bytes, n, &seen, &unused);
    while (used < n && (frames + 1) * channels <= max) {
        if (wav->held > 0 || n - used < frame) { /* a frame in pieces */
            size_t take = frame - wav->held < n - used ? frame - wav->held : n - used;
            memcpy(wav->hold + wav->held, bytes + used, take);
            wav->held += take;
            used += take;
            if (wav->held < frame) break;
            convert(wav, wav->hold, 1, out + frames * channels);
            wav->held = 0;
            frames++;
        } else {
            size_t m = (n - used) / frame, room = max / channels - frames;
            if (m > room) m = room;
            convert(wav, bytes + used, m, out + frames * channels);
            used += m * frame;
            frames += m;
        }
    }
    *n_used = used;
    if (wav->left != UINT64_MAX) wav->left -= used;
    return frames;
}

/* Converts the bytes in `ahead` that turned out to be audio, then new bytes, and ends the data at its size. */
static size_t read_data(struct wav *wav, const uint8_t *bytes, size_t n, size_t *n_used, float *out, size_t max)
{
    bool again = wav->again < wav->n_ahead;
    const uint8_t *p = again ? wav->ahead + wav->again : bytes;
    size_t used = 0, frames = push_data(wav, p, again ? wav->n_ahead - wav->again : n, &used, out, max);
    if (wav->endless) find_wav(p, used, &wav->matched, &wav->found_big_endian);
    if (again) wav->again += used;
    *n_used = again ? 0 : used;
    if (wav->matched == 12)
        begin_found_wav(wav);
    else if (wav->left == 0)
        look_behind(wav, wav->odd, false);
    return frames;
}

/* Processes bytes in one state, n > 0; returns how many, or -1 on failure. */
static ptrdiff_t read_header(struct wav *wav, const uint8_t *bytes, size_t n)
{
    size_t taken;
    switch (wav->state) {
    case WAV_SKIP:
        taken = n < wav->left ? n : (size_t)wav->left;
        wav->position += taken;
        wav->left -= taken;
        if (wav->left == 0) end_chunk(wav, wav->odd);
        break;
    case WAV_AFTER_DATA:
        taken = 1;
        wav->position++;
        wav->ahead[wav->n_ahead++] = bytes[0];
        if (check_after_data(wav) < 0) return -1;
        break;
    case WAV_DRAIN:
        taken = find_wav(bytes, n, &wav->matched, &wav->found_big_endian);
        if (wav->matched == 12) begin_found_wav(wav);
        break;
    default:
        taken = wav->wanted - wav->held < n ? wav->wanted - wav->held : n;
        memcpy(wav->hold + wav->held, bytes, taken);
        wav->held += taken;
        wav->position += taken;
        if (wav->held == wav->wanted && gathered(wav) < 0) return -1;
        break;
    }
    return (ptrdiff_t)taken;
}

void wav_init(struct wav *wav)
{
    memset(wav, 0, sizeof *wav);
    want(wav, WAV_RIFF, 12);
}

ptrdiff_t wav_push(struct wav *wav, const uint8_t *bytes, size_t n, size_t *n_used, float *samples, size_t max_samples)
{
    size_t used = 0, samples_given = 0;
    ptrdiff_t frames = 0;
    for (;;) {
        bool again = wav->state == WAV_DATA && wav->again < wav->n_ahead;
        if (wav->state == WAV_FAILED || (used == n && !again)) break;
        if (wav->state == WAV_DATA) {
            size_t taken = 0, before = wav->again, room = max_samples - samples_given;
            size_t got = read_data(wav, bytes + used, n - used, &taken, samples + samples_given, room);
            wav->position += taken;
            used += taken;
            frames += (ptrdiff_t)got;
            samples_given += got * (size_t)wav->channels;
            if (wav->state == WAV_DATA && taken == 0 && wav->again == before) break; /* no space for a frame */
        } else {
            ptrdiff_t taken = read_header(wav, bytes + used, n - used);
            if (taken < 0) break;
            used += (size_t)taken;
        }
    }
    *n_used = used;
    return frames > 0 || wav->state != WAV_FAILED ? frames : -1; /* frames before the failure come first */
}

int wav_end(struct wav *wav)
{
    if (wav->state == WAV_FAILED) return -1;
    if (!wav->started) return failed(wav, "it ends before its data");
    if (wav->state < WAV_DATA && !wav->has_data) return failed(wav, "another WAV behind its data has no data");
    uint64_t frame = (uint64_t)wav->channels * (uint64_t)wav->format.bytes;
    if (wav->state != WAV_DATA || wav->endless || wav->left + wav->held < frame) return 0;
    return failed(wav, "it is cut: it ends after %.1f s of %.1f", (double)wav->frames / wav->rate,
                  (double)(wav->frames + wav->left / frame) / wav->rate);
}
