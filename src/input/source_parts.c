#include "input/source_parts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WINDOW_BYTES = 65536, LEAST_FRAMES = 10 };

/* A window on the file. */
struct reader {
    int fd;
    int64_t size, at;
    size_t n;
    uint8_t bytes[WINDOW_BYTES];
};

/* Returns n bytes of the file at a position, n at most KIND_MOST_BYTES; NULL: the file is shorter. */
static const uint8_t *look(struct reader *r, int64_t at, size_t n)
{
    if (at < 0 || at + (int64_t)n > r->size) return NULL;
    if (at < r->at || at + (int64_t)n > r->at + (int64_t)r->n) {
        ssize_t got = pread(r->fd, r->bytes, sizeof r->bytes, at);
        r->at = at;
        r->n = got > 0 ? (size_t)got : 0;
        if (r->n < n) return NULL;
    }
    return r->bytes + (at - r->at);
}

/* Returns the position of a byte, from `at` on; the file's size if there is none. */
static int64_t next_byte(struct reader *r, int64_t at, uint8_t byte)
{
    while (look(r, at, 1)) {
        size_t from = (size_t)(at - r->at);
        const uint8_t *p = memchr(r->bytes + from, byte, r->n - from);
        if (p) return r->at + (p - r->bytes);
        at = r->at + (int64_t)r->n;
    }
    return r->size;
}

/* A recording of another kind begins here, which libsndfile does not read: all that follows is `trailing`. */
static bool is_foreign(struct parts *parts, struct reader *r, int64_t at, enum kind_class own)
{
    int64_t left = r->size - at;
    size_t n = left < KIND_MOST_BYTES ? (size_t)left : KIND_MOST_BYTES;
    const uint8_t *p = look(r, at, n);
    if (!p || at == 0) return false;
    struct kind kind = kind_of(p, n, true);
    if (kind.class == KIND_UNKNOWN || kind.class == KIND_NO_SOUND || kind.class == own) return false;
    parts->trailing = left;
    parts->trailing_name = kind.name;
    return true;
}

static int add(struct parts *parts, int64_t begin)
{
    if (parts->n == parts->room) {
        int room = parts->room ? 2 * parts->room : 4;
        struct part *more = realloc(parts->part, (size_t)room * sizeof *more);
        if (!more) return -1;
        parts->part = more;
        parts->room = room;
    }
    if (parts->n > 0) parts->part[parts->n - 1].end = begin;
    parts->part[parts->n++] = (struct part){begin, INT64_MAX, false};
    return 0;
}

/* ---- MPEG ---- */

struct mpeg {
    struct mpeg_frame first;  /* of this part */
    int64_t frames, promised; /* promised: by the Xing, Info or VBRI tag; 0: no tag */
    int64_t since;            /* frames after the promised ones */
    int64_t over;             /* position of the first of them */
};

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t le32(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Returns the length of a tag between frames (ID3v2, ID3v1, APE); 0: there is none. */
static int64_t tag_length(struct reader *r, int64_t at)
{
    const uint8_t *p = look(r, at, 10);
    if (!p) return 0;
    if (memcmp(p, "ID3", 3) == 0 && p[3] < 10 && ((p[6] | p[7] | p[8] | p[9]) & 0x80) == 0)
        return 10 + ((int64_t)p[6] << 21 | p[7] << 14 | p[8] << 7 | p[9]) + (p[5] & 0x10 ? 10 : 0);
    if (memcmp(p, "TAG", 3) == 0) return 128;
    if (memcmp(p, "APETAGEX", 8) == 0 && (p = look(r, at, 32)))
        return 32 + (int64_t)(p[23] & 0x20 ? le32(p + 12) - 32 : 0);
    return 0;
}

static bool same_stream(const struct mpeg_frame *a, const struct mpeg_frame *b)
{
    return a->rate == b->rate && a->layer == b->layer && a->channels == b->channels;
}

/* Parses a frame. sure: it follows a frame; otherwise another frame has to follow it. */
static bool frame_at(struct reader *r, int64_t at, bool sure, struct mpeg_frame *f)
{
    struct mpeg_frame next;
    const uint8_t *p = look(r, at, 4);
    if (!p || !kind_mpeg_frame(p, f)) return false;
    if (sure) return true;
    p = look(r, at + (int64_t)f->bytes, 4);
    return p && kind_mpeg_frame(p, &next) && next.rate == f->rate && next.layer == f->layer;
}

/* Returns how many frames the tag in a frame promises; -1: no tag; 0: a tag without a number. */
static int64_t promise(struct reader *r, int64_t at, const struct mpeg_frame *f)
{
    const uint8_t *p = f->layer == 3 ? look(r, at + (int64_t)f->tag, 12) : NULL;
    if (p && (memcmp(p, "Xing", 4) == 0 || memcmp(p, "Info", 4) == 0)) return p[7] & 1 ? (int64_t)be32(p + 8) : 0;
    p = f->layer == 3 ? look(r, at + 36, 18) : NULL;
    return p && memcmp(p, "VBRI", 4) == 0 ? (int64_t)be32(p + 14) : -1;
}

/* Counts one frame. Returns 0, or -1 if there is not enough memory. */
static int take_frame(struct parts *parts, struct mpeg *m, struct reader *r, int64_t at, const struct mpeg_frame *f)
{
    int64_t promised = promise(r, at, f);
    bool begins = m->frames > 0 && (promised >= 0 || !same_stream(f, &m->first));
    if (m->since == LEAST_FRAMES) { /* more frames than the tag promised: another part, without a tag */
        if (add(parts, m->over) < 0) return -1;
        *m = (struct mpeg){.first = m->first, .frames = LEAST_FRAMES};
    }
    if (begins && add(parts, at) < 0) return -1;
    if (begins) *m = (struct mpeg){0};
    if (m->frames == 0) m->first = *f;
    if (promised >= 0 && m->frames == 0 && m->promised == 0) {
        m->promised = promised;
        return 0; /* the frame of the tag holds no audio */
    }
    if (m->promised > 0 && m->frames == m->promised && m->since == 0) m->over = at;
    if (m->promised > 0 && m->frames == m->promised)
        m->since++;
    else
        m->frames++;
    return 0;
}

static int find_mpeg(struct parts *parts, struct reader *r)
{
    struct mpeg m = {0};
    struct mpeg_frame f;
    bool sure = false, whole = true;
    for (int64_t at = 0; at < r->size;) {
        int64_t tag = tag_length(r, at);
        if (tag > 0) {
            at += tag;
        } else if (frame_at(r, at, sure, &f)) {
            if (take_frame(parts, &m, r, at, &f) < 0) return -1;
            at += (int64_t)f.bytes;
            whole = at <= r->size;
            sure = true;
        } else if (sure && is_foreign(parts, r, at, KIND_MPEG)) {
            break;
        } else { /* damage: continue at the next two frames */
            at = next_byte(r, at + 1, 0xFF);
            sure = false;
        }
    }
    parts->cut = m.frames > 0 && (!whole || m.frames + LEAST_FRAMES < m.promised);
    return 0;
}

/* ---- Ogg ---- */

/* Returns the length of the page here; 0: there is none. *flags: 2: begins a stream, 4: ends one. */
static int64_t page_length(struct reader *r, int64_t at, int *flags)
{
    const uint8_t *p = look(r, at, 27);
    if (!p || memcmp(p, "OggS", 4) != 0 || p[4] != 0) return 0;
    *flags = p[5];
    size_t n = p[26];
    int64_t length = 27 + (int64_t)n;
    p = look(r, at + 27, n);
    if (!p) return length; /* the file ends in the header */
    for (size_t i = 0; i < n; i++) length += p[i];
    return length;
}

static int find_ogg(struct parts *parts, struct reader *r)
{
    bool in_head = true, ended = false, whole = true, sure = false;
    for (int64_t at = 0, page = 0, page_end = 0; at < r->size;) {
        int flags = 0;
        int64_t length = page_length(r, at, &flags), tag = length == 0 && sure ? tag_length(r, at) : 0;
        if (tag > 0) {
            at += tag;
            continue;
        }
        if (length == 0) {
            if (sure && is_foreign(parts, r, at, KIND_OGG)) break;
            at = next_byte(r, (sure ? page : at) + 1, 'O'); /* the page may be truncated, with another file after it */
            sure = false;
            continue;
        }
        if (flags & 2 && !in_head) {
            parts->part[parts->n - 1].cut = at < page_end;
            if (add(parts, at) < 0) return -1;
            ended = false;
        }
        in_head = flags & 2;
        if (flags & 4) ended = true;
        sure = true;
        page = at;
        at = page_end = at + length;
        whole = at <= r->size;
    }
    parts->cut = !whole || !ended;
    return 0;
}

/* ---- FLAC: libsndfile finds out by its header whether it is whole ---- */

/* Only decoding tells where a FLAC ends, so other kinds are searched at every byte, first by these bytes. */
static bool may_begin(const uint8_t *p)
{
    struct mpeg_frame f;
    if (*p == 'f') return memcmp(p, "fLaC", 4) == 0 && (p[4] & 0x7F) == 0 && memcmp(p + 5, "\0\0\x22", 3) == 0;
    if (*p == 'O') return memcmp(p, "OggS\0\2", 6) == 0;
    if (*p == 'R') return memcmp(p, "RIFF", 4) == 0;
    if (*p == 'F') return memcmp(p, "FORM", 4) == 0;
    return *p == 0xFF && kind_mpeg_frame(p, &f) && f.layer == 3;
}

/* Skips the blocks of a header, which may hold pictures, and the header of the WAV that it was made from. */
static int64_t flac_frames(struct reader *r, int64_t at)
{
    const uint8_t *p;
    bool last = false;
    for (at += 4; !last && (p = look(r, at, 4)); at += 4 + (int64_t)(be32(p) & 0xFFFFFF)) last = *p & 0x80;
    return at;
}

static int find_flac(struct parts *parts, struct reader *r)
{
    const uint8_t *p;
    for (int64_t at = flac_frames(r, 0); (p = look(r, at, 8));) {
        if (!may_begin(p)) {
            at++;
        } else if (*p == 'f') {
            if (add(parts, at) < 0) return -1;
            at = flac_frames(r, at);
        } else if (is_foreign(parts, r, at, KIND_FLAC)) {
            break;
        } else {
            at++;
        }
    }
    return 0;
}

/* ---- other formats: the end given by the header ---- */

static int64_t caf_end(struct reader *r)
{
    int64_t at = 8;
    const uint8_t *p;
    while ((p = look(r, at, 12))) {
        uint64_t size = (uint64_t)be32(p + 4) << 32 | be32(p + 8);
        if (size > INT64_MAX / 2) return 0; /* -1: to the end */
        at += 12 + (int64_t)size;
    }
    return at;
}

/* Returns 0 if it is unknown. */
static int64_t end_by_header(struct reader *r)
{
    const uint8_t *p = look(r, 0, 24);
    if (!p) return 0;
    bool form = memcmp(p, "FORM", 4) == 0 || memcmp(p, "RIFX", 4) == 0;
    if (form || memcmp(p, "RIFF", 4) == 0) {
        uint32_t size = form ? be32(p + 4) : le32(p + 4);
        return size == 0 || size >= 0x7FFFF000 ? 0 : 8 + (int64_t)size;
    }
    if (memcmp(p, ".snd", 4) == 0 || memcmp(p, "dns.", 4) == 0) {
        bool big = p[0] == '.';
        uint32_t from = big ? be32(p + 4) : le32(p + 4), size = big ? be32(p + 8) : le32(p + 8);
        return size == 0 || size >= 0x7FFFF000 ? 0 : (int64_t)from + size;
    }
    if (memcmp(p, "riff", 4) == 0) {
        uint64_t size = le32(p + 16) | (uint64_t)le32(p + 20) << 32;
        return size < 40 || size > INT64_MAX / 2 ? 0 : (int64_t)size;
    }
    return memcmp(p, "caff", 4) == 0 ? caf_end(r) : 0;
}

static void compare_end(struct parts *parts, struct reader *r)
{
    int64_t end = end_by_header(r);
    parts->cut = end > r->size + 8; /* the padding of a last chunk may be missing */
    if (end > 0 && end + 8 < r->size && tag_length(r, end) == 0 && tag_length(r, end + 1) == 0)
        parts->trailing = r->size - end;
}

/* ---- all formats ---- */

int parts_find(struct parts *parts, int fd, int64_t size, struct kind kind)
{
    struct reader *r = calloc(1, sizeof *r);
    *parts = (struct parts){0};
    int status = r ? add(parts, 0) : -1;
    if (status == 0) {
        r->fd = fd;
        r->size = size;
        switch (kind.class) {
        case KIND_MPEG:
            status = find_mpeg(parts, r);
            break;
        case KIND_OGG:
            status = find_ogg(parts, r);
            break;
        case KIND_FLAC:
            status = find_flac(parts, r);
            break;
        default:
            compare_end(parts, r);
            break;
        }
    }
    if (status == 0) parts->part[parts->n - 1].end = size - parts->trailing; /* libsndfile may fail on those bytes */
    free(r);
    if (status < 0) parts_free(parts);
    return status;
}

void parts_free(struct parts *parts)
{
    free(parts->part);
    *parts = (struct parts){0};
}
