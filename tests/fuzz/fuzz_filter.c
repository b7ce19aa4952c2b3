/* A program's output through the filter, whole and in pieces: the result must have the same bytes and calls, no more
 * bytes than the header allows, and no string sequence except DECRQSS. The first byte selects how the rest is cut. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "overlay/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_INPUT = 4096 };

struct seen {
    uint32_t calls; /* a hash of the calls in their order */
    size_t n;
    char out[FILTER_ROOM(MAX_INPUT)];
};

static void require(int truth, const char *what)
{
    if (truth) return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void note(struct seen *seen, const char *bytes, size_t n)
{
    for (size_t i = 0; i <= n; i++) seen->calls = (seen->calls ^ (i < n ? (uint8_t)bytes[i] : 256u)) * 16777619u;
}

static void on_mode(void *user, enum input_mode mode, int value)
{
    char text[32];
    require((int)mode >= 0 && mode < MODES && value >= 0, "a mode that there is not");
    note(user, text, (size_t)snprintf(text, sizeof text, "%d=%d", (int)mode, value));
}

static void on_title(void *user, const char *title)
{
    require(strlen(title) <= FILTER_STRING, "a title too long");
    note(user, title, strlen(title));
}

static bool on_join(void *user, uint32_t *code)
{
    bool joins = *code >= 0x300 && *code < 0x370;
    if (joins && *code % 8 == 0) *code += 1;
    if (joins && *code % 8 == 2) *code = 0;
    note(user, joins ? "joins" : "alone", 5);
    return joins;
}

/* Pieces are at most `most` bytes; 0: one piece. */
static void pass(struct seen *seen, const char *data, size_t size, size_t most)
{
    struct filter_calls calls = {.mode = on_mode, .title = on_title, .joins = on_join, .user = seen};
    struct filter f;
    filter_init(&f, &calls);
    memset(seen, 0, sizeof *seen);
    for (size_t at = 0, i = 0; at < size; i++) {
        size_t piece = most == 0 ? size : 1 + i * 7 % most;
        if (piece > size - at) piece = size - at;
        char *in = malloc(piece), *out = malloc(FILTER_ROOM(piece)); /* of the exact size, for the sanitizer */
        memcpy(in, data + at, piece);
        size_t n = filter_feed(&f, in, piece, out);
        require(n <= FILTER_ROOM(piece) && seen->n + n <= sizeof seen->out, "more bytes than allowed");
        memcpy(seen->out + seen->n, out, n);
        seen->n += n;
        at += piece;
        free(in);
        free(out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct seen whole, pieces;
    if (size < 1 || size > MAX_INPUT) return 0;
    const char *text = (const char *)data + 1;
    pass(&whole, text, size - 1, 0);
    pass(&pieces, text, size - 1, 1 + data[0] % 64);
    require(whole.n == pieces.n && memcmp(whole.out, pieces.out, whole.n) == 0, "other bytes in pieces");
    require(whole.calls == pieces.calls, "other calls in pieces");
    for (size_t i = 0; i + 1 < whole.n; i++) {
        if (whole.out[i] != '\033') continue;
        require(!whole.out[i + 1] || !strchr("]_^X", whole.out[i + 1]), "a string passed");
        require(whole.out[i + 1] != 'P' || (i + 3 < whole.n && memcmp(whole.out + i + 2, "$q", 2) == 0),
                "a string passed that is no DECRQSS");
    }
    return 0;
}
