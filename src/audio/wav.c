#include "audio/wav.h"

#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { TAG_PCM = 1, TAG_FLOAT = 3, TAG_EXTENSIBLE = 0xFFFE };

static uint32_t le16(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8;
}
static uint32_t le32(const uint8_t *p)
{
    return le16(p) | le16(p + 2) << 16;
}
static uint64_t le64(const uint8_t *p)
{
    return le32(p) | (uint64_t)le32(p + 4) << 32;
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

static const char *tag_name(uint32_t tag)
{
    static const struct {
        uint32_t tag;
        const char *name;
    } known[] = {
        {0x02, "MS ADPCM"}, {0x06, "A-law"},      {0x07, "mu-law"}, {0x11, "IMA ADPCM"},
        {0x31, "GSM 6.10"}, {0x50, "MPEG audio"}, {0x55, "MP3"},    {0xFF, "AAC"},
        {0x160, "WMA"},     {0x161, "WMA"},       {0x2000, "AC-3"}, {0xF1AC, "FLAC"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].tag == tag) return known[i].name;
    return "an unknown format";
}

/* EXTENSIBLE: a GUID whose first two bytes are the tag and whose rest is always the same. */
static bool is_media_subtype(const uint8_t *guid)
{
    static const uint8_t rest[14] = {0, 0, 0, 0, 0x10, 0, 0x80, 0, 0, 0xAA, 0, 0x38, 0x9B, 0x71};
    return memcmp(guid + 2, rest, sizeof rest) == 0;
}

static int read_format(struct wav *wav, size_t n)
{
    const uint8_t *p = wav->hold;
    if (n < 16) return failed(wav, "its fmt chunk has %zu bytes; 16 are the least", n);
    uint32_t tag = le16(p), channels = le16(p + 2), rate = le32(p + 4), block = le16(p + 12), bits = le16(p + 14);
    if (tag == TAG_EXTENSIBLE) {
        if (n < 40 || !is_media_subtype(p + 24)) return failed(wav, "it is EXTENSIBLE with an unknown subformat");
        tag = le16(p + 24);
    }
    if (tag != TAG_PCM && tag != TAG_FLOAT)
        return failed(wav, "it holds %s (format 0x%04X); PCM and float are read", tag_name(tag), (unsigned)tag);
    if (tag == TAG_PCM && bits != 8 && bits != 16 && bits != 24 && bits != 32)
        return failed(wav, "it holds PCM of %u bits; 8, 16, 24 and 32 are read", (unsigned)bits);
    if (tag == TAG_FLOAT && bits != 32 && bits != 64)
        return failed(wav, "it holds float of %u bits; 32 and 64 are read", (unsigned)bits);
    if (channels < 1 || channels > WAV_MAX_CHANNELS)
        return failed(wav, "it has %u channels; 1 to %d are read", (unsigned)channels, WAV_MAX_CHANNELS);
    if (rate < WAV_MIN_RATE || rate > WAV_MAX_RATE)
        return failed(wav, "its rate is %u Hz; %d to %d are read", (unsigned)rate, WAV_MIN_RATE, WAV_MAX_RATE);
    if (block != channels * bits / 8)
        return failed(wav, "its frames have %u bytes, not %u channels of %u bits", (unsigned)block, (unsigned)channels,
                      (unsigned)bits);
    wav->rate = (int)rate;
    wav->channels = (int)channels;
    wav->bits = (int)bits;
    wav->is_float = tag == TAG_FLOAT;
    wav->has_format = true;
    return 0;
}

static void want(struct wav *wav, enum wav_state state, size_t n)
{
    wav->state = state;
    wav->held = 0;
    wav->wanted = n;
}

static int begin_data(struct wav *wav, uint32_t size)
{
    if (!wav->has_format) return failed(wav, "its data chunk stands before the fmt chunk, which a stream cannot read");
    uint64_t n = wav->rf64 && size == UINT32_MAX ? wav->data_size : size;
    bool unknown = n == 0 || n == UINT64_MAX || (n == size && size >= 0x7FFFF000u);
    wav->left = unknown ? UINT64_MAX : n;
    want(wav, WAV_DATA, (size_t)wav->channels * (size_t)wav->bits / 8);
    return 0;
}

/* The eight bytes before each chunk. fmt and ds64 are read from their beginning; the rest is skipped. */
static int begin_chunk(struct wav *wav)
{
    const uint8_t *p = wav->hold;
    uint32_t size = le32(p + 4);
    if (memcmp(p, "data", 4) == 0) return begin_data(wav, size);
    bool format = memcmp(p, "fmt ", 4) == 0, sizes = memcmp(p, "ds64", 4) == 0;
    size_t most = format ? 40 : sizes ? 16 : 0;
    wav->left = (uint64_t)size + (size & 1);
    want(wav, format ? WAV_FORMAT : sizes ? WAV_SIZES : WAV_SKIP, size < most ? size : most);
    return 0;
}

/* hold has what was wanted. 0, or -1 on failure. */
static int gathered(struct wav *wav)
{
    size_t n = wav->wanted;
    switch (wav->state) {
    case WAV_RIFF:
        wav->rf64 = memcmp(wav->hold, "RF64", 4) == 0;
        if ((!wav->rf64 && memcmp(wav->hold, "RIFF", 4) != 0) || memcmp(wav->hold + 8, "WAVE", 4) != 0)
            return failed(wav, "it does not begin as a WAV");
        want(wav, WAV_CHUNK, 8);
        return 0;
    case WAV_CHUNK:
        return begin_chunk(wav);
    case WAV_FORMAT:
        if (read_format(wav, n) < 0) return -1;
        break;
    case WAV_SIZES:
        if (n == 16) wav->data_size = le64(wav->hold + 8);
        break;
    default:
        break;
    }
    wav->left -= n;
    want(wav, WAV_SKIP, 0);
    return 0;
}

static float sample(const struct wav *wav, const uint8_t *p)
{
    switch (wav->bits) {
    case 8:
        return (float)(p[0] - 128) / 128;
    case 16:
        return (float)(int16_t)le16(p) / 32768;
    case 24:
        return (float)((int32_t)(le16(p) << 8 | (uint32_t)p[2] << 24) / 256) / 8388608;
    case 64: {
        uint64_t u = le64(p);
        double d;
        memcpy(&d, &u, sizeof d);
        return fabs(d) <= FLT_MAX ? (float)d : 0; /* false for NaN */
    }
    default:
        break;
    }
    uint32_t u = le32(p);
    float f;
    if (!wav->is_float) return (float)((double)(int32_t)u / 2147483648.0);
    memcpy(&f, &u, sizeof f);
    return isfinite(f) ? f : 0;
}

/* Bytes of data, up to n, to frames. */
static ptrdiff_t push_data(struct wav *wav, const uint8_t *bytes, size_t n, size_t *n_used, float *out, size_t max)
{
    size_t channels = (size_t)wav->channels, width = (size_t)wav->bits / 8, used = 0, frames = 0;
    while (used < n && wav->left > 0 && (frames + 1) * channels <= max) {
        const uint8_t *frame = bytes + used;
        size_t take = wav->wanted - wav->held;
        if (take > n - used) take = n - used;
        if (take > wav->left) take = (size_t)wav->left;
        used += take;
        if (wav->left != UINT64_MAX) wav->left -= take;
        if (take < wav->wanted) { /* it came in pieces */
            memcpy(wav->hold + wav->held, frame, take);
            wav->held += take;
            if (wav->held < wav->wanted) continue;
            wav->held = 0;
            frame = wav->hold;
        }
        for (size_t c = 0; c < channels; c++) out[frames * channels + c] = sample(wav, frame + c * width);
        frames++;
    }
    if (wav->left == 0) wav->state = WAV_ENDED;
    *n_used = used;
    return (ptrdiff_t)frames;
}

static size_t smaller(size_t a, uint64_t b)
{
    return a < b ? a : (size_t)b;
}

void wav_init(struct wav *wav)
{
    memset(wav, 0, sizeof *wav);
    want(wav, WAV_RIFF, 12);
}

ptrdiff_t wav_push(struct wav *wav, const uint8_t *bytes, size_t n, size_t *n_used, float *samples, size_t max_samples)
{
    size_t used = 0, taken = 0;
    ptrdiff_t frames = 0;
    *n_used = 0;
    while (wav->state < WAV_DATA) {
        if (wav->state == WAV_SKIP) {
            taken = smaller(n - used, wav->left);
            wav->left -= taken;
            if (wav->left == 0) want(wav, WAV_CHUNK, 8);
        } else {
            taken = smaller(n - used, wav->wanted - wav->held);
            if (taken > 0) memcpy(wav->hold + wav->held, bytes + used, taken);
            wav->held += taken;
            if (wav->held == wav->wanted && gathered(wav) < 0) return -1;
        }
        used += taken;
        if (used == n && (wav->state == WAV_SKIP ? wav->left > 0 : wav->held < wav->wanted)) break;
    }
    if (wav->state == WAV_FAILED) return -1;
    if (wav->state == WAV_DATA) {
        frames = push_data(wav, bytes + used, n - used, &taken, samples, max_samples);
        used += taken;
    }
    *n_used = wav->state == WAV_ENDED ? n : used;
    return frames;
}

int wav_end(struct wav *wav)
{
    if (wav->state == WAV_FAILED) return -1;
    if (wav->state < WAV_DATA) return failed(wav, "it ends before its data");
    return 0;
}
