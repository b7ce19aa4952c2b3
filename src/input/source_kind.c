#include "input/source_kind.h"

#include <string.h>
#include <strings.h>

/* ---- formats by a signature ---- */

static const struct name {
    enum kind_class class;
    uint8_t at, n; /* offset and number of the bytes */
    const char *bytes, *name;
} names[] = {
    {KIND_FLAC, 0, 4, "fLaC", "FLAC"},
    {KIND_OGG, 0, 4, "OggS", "Ogg"},
    {KIND_SNDFILE, 0, 4, ".snd", "AU"},
    {KIND_SNDFILE, 0, 4, "dns.", "AU"},
    {KIND_SNDFILE, 0, 8, "caff\0\1\0\0", "CAF"},
    {KIND_SNDFILE, 0, 16, "riff\x2E\x91\xCF\x11\xA5\xD6\x28\xDB\x04\xC1\0\0", "W64"},
    {KIND_SNDFILE, 0, 19, "Creative Voice File", "VOC"},
    {KIND_SNDFILE, 0, 8, "NIST_1A\n", "NIST SPHERE"},
    {KIND_FFMPEG, 0, 4, "\x1A\x45\xDF\xA3", "Matroska or WebM"},
    {KIND_FFMPEG, 0, 8, "\x30\x26\xB2\x75\x8E\x66\xCF\x11", "WMA (ASF)"},
    {KIND_FFMPEG, 0, 5, "#!AMR", "AMR"},
    {KIND_FFMPEG, 0, 4, "FLV\1", "FLV"},
    {KIND_FFMPEG, 0, 4, "wvpk", "WavPack"},
    {KIND_FFMPEG, 0, 4, "MAC ", "Monkey's Audio"},
    {KIND_FFMPEG, 0, 4, "TTA1", "TTA"},
    {KIND_FFMPEG, 0, 4, "MPCK", "Musepack"},
    {KIND_FFMPEG, 0, 4, "MP+\7", "Musepack"},
    {KIND_FFMPEG, 0, 4, ".RMF", "RealMedia"},
    {KIND_FFMPEG, 0, 4, "DSD ", "DSD"},
    {KIND_FFMPEG, 0, 4, "FRM8", "DSD"},
    {KIND_FFMPEG, 0, 4, "\0\0\1\xBA", "MPEG program stream"},
    {KIND_SEEKABLE, 4, 4, "ftyp", "MP4 or M4A"},
    {KIND_SEEKABLE, 4, 4, "moov", "MP4 or M4A"},
    {KIND_SEEKABLE, 4, 4, "mdat", "MP4 or M4A"},
    {KIND_NO_SOUND, 0, 7, "\xEF\xBB\xBFRIFF", "a WAV that a text editor damaged"},
    {KIND_NO_SOUND, 0, 4, "MThd", "MIDI"},
    {KIND_NO_SOUND, 0, 4, "PK\3\4", "zip"},
    {KIND_NO_SOUND, 0, 5, "%PDF-", "PDF"},
    {KIND_NO_SOUND, 0, 4, "GGUF", "GGUF"},
    {KIND_NO_SOUND, 0, 6, "7z\xBC\xAF\x27\x1C", "7z"},
    {KIND_NO_SOUND, 0, 6,
     "\xFD"
     "7zXZ\0",
     "xz"},
    {KIND_NO_SOUND, 0, 4, "\x28\xB5\x2F\xFD", "zstd"},
    {KIND_NO_SOUND, 4, 6, "1AY&SY", "bzip2"},
    {KIND_NO_SOUND, 0, 8, "\x89PNG\r\n\x1A\n", "PNG"},
    {KIND_NO_SOUND, 0, 6, "GIF89a", "GIF"},
    {KIND_NO_SOUND, 0, 6, "GIF87a", "GIF"},
    {KIND_NO_SOUND, 0, 4, "\xFF\xD8\xFF\xE0", "JPEG"},
    {KIND_NO_SOUND, 0, 4, "\xFF\xD8\xFF\xE1", "JPEG"},
    {KIND_NO_SOUND, 0, 4,
     "\x7F"
     "ELF",
     "a program (ELF)"},
};

static struct kind by_name(const uint8_t *p, size_t n, size_t *length)
{
    struct kind more = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t have = n > names[i].at ? n - names[i].at : 0;
        if (have > names[i].n) have = names[i].n;
        if (have == 0 || memcmp(p + names[i].at, names[i].bytes, have) != 0) continue;
        *length = names[i].n;
        if (have == names[i].n) return (struct kind){names[i].class, names[i].name};
        if (have >= 2 && names[i].at == 0) more.class = KIND_MORE;
    }
    return more;
}

/* RIFF and the like: the kind of content is at byte 8. */
static struct kind by_form(const uint8_t *p, size_t n)
{
    static const char *const wav[] = {"RIFF", "RF64", "BW64", "RIFX"};
    for (size_t i = 0; i < sizeof wav / sizeof *wav; i++) {
        if (n < 4 || memcmp(p, wav[i], 4) != 0) continue;
        if (n < 12) return (struct kind){KIND_MORE, NULL};
        if (memcmp(p + 8, "WAVE", 4) == 0) return (struct kind){KIND_WAV, "WAV"};
        if (memcmp(p + 8, "AVI ", 4) == 0) return (struct kind){KIND_FFMPEG, "AVI"};
        return (struct kind){KIND_NO_SOUND, "RIFF that is no WAV"};
    }
    if (n < 4 || memcmp(p, "FORM", 4) != 0) return (struct kind){0};
    if (n < 12) return (struct kind){KIND_MORE, NULL};
    if (memcmp(p + 8, "AIFF", 4) == 0 || memcmp(p + 8, "AIFC", 4) == 0) return (struct kind){KIND_SNDFILE, "AIFF"};
    if (memcmp(p + 8, "8SVX", 4) == 0 || memcmp(p + 8, "16SV", 4) == 0) return (struct kind){KIND_SNDFILE, "IFF"};
    return (struct kind){0};
}

/* ---- formats by their frames: one header may occur in samples by chance, two at the right distance do not ---- */

bool kind_mpeg_frame(const uint8_t *p, struct mpeg_frame *f)
{
    static const uint16_t kbit[2][3][15] = {{{0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448},
                                             {0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384},
                                             {0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320}},
                                            {{0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256},
                                             {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160},
                                             {0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160}}};
    static const int rates[3] = {44100, 48000, 32000};
    if (p[0] != 0xFF || (p[1] & 0xE0) != 0xE0) return false;
    int version = p[1] >> 3 & 3, layer = 4 - (p[1] >> 1 & 3), bitrate = p[2] >> 4, rate = p[2] >> 2 & 3;
    if (version == 1 || layer == 4 || bitrate == 0 || bitrate == 15 || rate == 3) return false;
    bool low = version != 3; /* MPEG-2, and at half its rates 2.5 */
    size_t bits = kbit[low][layer - 1][bitrate] * 1000u, padding = p[2] >> 1 & 1;
    f->rate = rates[rate] >> (low + (version == 0));
    f->channels = p[3] >> 6 == 3 ? 1 : 2;
    f->layer = layer;
    f->samples = layer == 1 ? 384 : layer == 3 && low ? 576 : 1152;
    f->bytes =
        layer == 1 ? (12 * bits / (size_t)f->rate + padding) * 4 : f->samples / 8 * bits / (size_t)f->rate + padding;
    f->tag = 4 + (low ? (f->channels == 1 ? 9u : 17u) : f->channels == 1 ? 17u : 32u);
    return true;
}

/* Layer I is left out: it is not in use, and its bytes FF FF, the sample -1, are frequent. */
static size_t mpeg_length(const uint8_t *p)
{
    struct mpeg_frame f;
    return kind_mpeg_frame(p, &f) && f.layer > 1 ? f.bytes : 0;
}

/* AAC in ADTS: 7 bytes. */
static size_t adts_length(const uint8_t *p)
{
    if (p[0] != 0xFF || (p[1] & 0xF6) != 0xF0 || (p[2] >> 2 & 15) > 12) return 0;
    size_t n = (size_t)(p[3] & 3) << 11 | (size_t)p[4] << 3 | p[5] >> 5;
    return n >= 9 ? n : 0;
}

/* AC-3 and E-AC-3: 6 bytes. */
static size_t ac3_length(const uint8_t *p)
{
    static const uint16_t kbit[19] = {32,  40,  48,  56,  64,  80,  96,  112, 128, 160,
                                      192, 224, 256, 320, 384, 448, 512, 576, 640};
    if (p[0] != 0x0B || p[1] != 0x77) return 0;
    int id = p[5] >> 3, rate = p[4] >> 6, code = p[4] & 63;
    if (id > 10) return id <= 16 ? 2 * ((size_t)(p[2] & 7) << 8 | p[3]) + 2 : 0;
    if (rate == 3 || code >= 38) return 0;
    size_t k = kbit[code / 2];
    return rate == 0 ? 4 * k : rate == 2 ? 6 * k : 2 * (k * 320 / 147 + (size_t)(code & 1));
}

/* Compares the fields that are the same in all frames. */
static struct kind by_frames(const uint8_t *p, size_t n, bool end)
{
    static const struct {
        size_t (*length)(const uint8_t *);
        size_t header;
        uint8_t same[4];
        struct kind kind;
    } kinds[] = {{mpeg_length, 4, {0xFF, 0xFE, 0x0C, 0}, {KIND_MPEG, "MPEG audio"}},
                 {adts_length, 7, {0xFF, 0xFF, 0xFD, 0xC0}, {KIND_FFMPEG, "AAC"}},
                 {ac3_length, 6, {0xFF, 0xFF, 0, 0}, {KIND_FFMPEG, "AC-3"}}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (n < kinds[i].header) continue;
        size_t at = kinds[i].length(p);
        int seen = 0;
        /* Three headers, or two at the end: two occur in noise about once in 10^7 beginnings. */
        for (; at > 0 && seen < 2 && at + kinds[i].header <= n; seen++) {
            bool same = true;
            for (size_t k = 0; k < 4; k++) same = same && ((p[k] ^ p[at + k]) & kinds[i].same[k]) == 0;
            size_t next = same ? kinds[i].length(p + at) : 0;
            at = next ? at + next : 0;
        }
        if (at == 0) continue;
        if (seen == 2 || (seen == 1 && end)) return kinds[i].kind;
        if (!end && at + kinds[i].header <= KIND_MOST_BYTES) return (struct kind){KIND_MORE, NULL};
    }
    return (struct kind){0};
}

/* A transport stream has 0x47 every 188 bytes; recorders write 4 bytes of time before each. */
static struct kind by_packets(const uint8_t *p, size_t n, bool end)
{
    for (int timed = 0; timed < 2; timed++) {
        size_t first = timed ? 4 : 0, step = timed ? 192 : 188, seen = 0;
        while (seen < 5 && first + seen * step < n && p[first + seen * step] == 0x47) seen++;
        if (seen == 5) return (struct kind){KIND_FFMPEG, "MPEG transport stream"};
        if (seen > 0 && !end && first + seen * step >= n) return (struct kind){KIND_MORE, NULL};
    }
    return (struct kind){0};
}

/* ---- formats by more than a signature ---- */

static struct kind by_header(const uint8_t *p, size_t n, bool end)
{
    static const struct kind more = {KIND_MORE, NULL}, none = {0};
    if (n >= 3 && memcmp(p, "ID3", 3) == 0) {
        if (n < 10) return end ? none : more;
        bool fits = p[3] < 10 && p[4] < 10 && ((p[6] | p[7] | p[8] | p[9]) & 0x80) == 0;
        return fits ? (struct kind){KIND_MPEG, "MP3"} : none;
    }
    if (n >= 3 && memcmp(p, "\x1F\x8B\x08", 3) == 0) {
        if (n < 10) return end ? none : more;
        bool fits = p[3] < 0x20 && (p[8] == 0 || p[8] == 2 || p[8] == 4) && (p[9] < 14 || p[9] == 255);
        return fits ? (struct kind){KIND_NO_SOUND, "gzip"} : none;
    }
    return none;
}

/* Returns the bytes of the printable character at p; 0: there is none, -1: it is truncated. */
static int text_length(const uint8_t *p, size_t n)
{
    if (*p < 0x80) return (*p >= ' ' && *p < 0x7F) || (*p >= '\t' && *p <= '\r') || *p == 0x1B;
    int length = *p >= 0xF0 ? 4 : *p >= 0xE0 ? 3 : 2;
    if (*p < 0xC2 || *p > 0xF4) return 0;
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= n) return -1;
        if ((p[i] & 0xC0) != 0x80) return 0;
    }
    return length;
}

/* No recording begins with so much printable text: as 16-bit samples it would be loud. */
static struct kind by_text(const uint8_t *p, size_t n, bool end)
{
    enum { ENOUGH = 48, LEAST = 8 };
    size_t at = 0;
    if (n >= 3 && memcmp(p, "\xEF\xBB\xBF", 3) == 0) at = 3;
    while (at < n && at < ENOUGH) {
        int length = text_length(p + at, n - at);
        if (length == 0) return (struct kind){0};
        if (length < 0) break;
        at += (size_t)length;
    }
    if (at < ENOUGH && !end) return (struct kind){n > 0 ? KIND_MORE : KIND_UNKNOWN, NULL};
    if (at < LEAST) return (struct kind){0};
    while (n > 0 && (*p <= ' ' || *p >= 0x80)) p++, n--;
    bool html =
        n >= 6 && (strncasecmp((const char *)p, "<!doct", 6) == 0 || strncasecmp((const char *)p, "<html", 5) == 0);
    return (struct kind){KIND_NO_SOUND, html ? "HTML" : "text"};
}

struct kind kind_of(const uint8_t *bytes, size_t n, bool end)
{
    size_t length = 0;
    struct kind name = by_name(bytes, n, &length), text = by_text(bytes, n, end), more = {0};
    if (name.class != KIND_UNKNOWN && name.class != KIND_MORE && length <= 4 && text.class != KIND_UNKNOWN)
        name = text; /* text that begins like a container */
    struct kind found[] = {by_form(bytes, n),         name, by_header(bytes, n, end), by_frames(bytes, n, end),
                           by_packets(bytes, n, end), text};
    for (size_t i = 0; i < sizeof found / sizeof *found; i++) {
        if (found[i].class == KIND_MORE)
            more.class = end || n >= KIND_MOST_BYTES ? KIND_UNKNOWN : KIND_MORE;
        else if (found[i].class != KIND_UNKNOWN)
            return found[i];
    }
    return more;
}
