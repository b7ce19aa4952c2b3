#include "text/assemble.h"

#include <string.h>

#include "surtitle.h"
#include "util/utf8.h"

void sur_assembler_init(struct sur_assembler *a)
{
    memset(a, 0, sizeof *a);
}

/* When the group began is estimated from its number of pieces: two steps per piece, at least three. */
static void set_start(struct sur_assembler *a)
{
    int steps = a->group.n_pieces > 1 ? 2 * a->group.n_pieces : 3;
    int64_t t0 = a->group.t1 - (int64_t)steps * SUR_TOKEN_SAMPLES;
    a->group.t0 = t0 > a->last_t1 ? t0 : a->last_t1;
}

static void open_group(struct sur_assembler *a, int64_t t1)
{
    memset(&a->group, 0, sizeof a->group);
    a->group.t1 = t1;
    a->open = true;
    set_start(a);
}

/* Returns whether a group with text closed. */
static bool close_group(struct sur_assembler *a, struct sur_group *closed)
{
    if (!a->open) return false;
    a->open = false;
    if (a->group.n_bytes == 0) return false;
    a->last_t1 = a->group.t1;
    *closed = a->group;
    return true;
}

/* Adds text to the open group, or to a new one if none is open or the text does not fit. Returns whether a group
 * closed. */
static bool add_text(struct sur_assembler *a, int64_t t1, const char *text, size_t n, struct sur_group *closed)
{
    bool did_close = false;
    if (a->open && a->group.n_bytes + n > SUR_GROUP_BYTES) did_close = close_group(a, closed);
    if (!a->open) open_group(a, t1);
    memcpy(a->group.text + a->group.n_bytes, text, n + 1);
    a->group.n_bytes += n;
    return did_close;
}

static size_t append(char *text, size_t used, uint32_t code_point)
{
    if (!sur_utf8_printable(code_point)) code_point = SUR_UTF8_REPLACEMENT;
    char bytes[4];
    size_t n = (size_t)sur_utf8_encode(code_point, bytes);
    if (used + n > SUR_GROUP_BYTES) return used;
    memcpy(text + used, bytes, n);
    return used + n;
}

/* Writes the characters of carry and piece; the bytes of an incomplete last character become the carry. */
static size_t complete(struct sur_assembler *a, const uint8_t *piece, size_t n_bytes, char *text)
{
    uint8_t bytes[sizeof a->carry + SUR_GROUP_BYTES];
    if (n_bytes > SUR_GROUP_BYTES) n_bytes = SUR_GROUP_BYTES;
    size_t n = (size_t)a->n_carry, used = 0;
    memcpy(bytes, a->carry, n);
    memcpy(bytes + n, piece, n_bytes);
    n += n_bytes;
    a->n_carry = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        int took = sur_utf8_decode(bytes + i, n - i, &c);
        if (took == 0) {
            a->n_carry = (int)(n - i);
            memcpy(a->carry, bytes + i, n - i);
            break;
        }
        i += (size_t)(took < 0 ? -took : took);
        used = append(text, used, c);
    }
    text[used] = 0;
    return used;
}

/* At an end an incomplete character becomes U+FFFD. */
static size_t give_up_carry(struct sur_assembler *a, char *text)
{
    size_t used = a->n_carry > 0 ? append(text, 0, SUR_UTF8_REPLACEMENT) : 0;
    text[used] = 0;
    a->n_carry = 0;
    return used;
}

static bool end_text(struct sur_assembler *a, int64_t t1, char *text, struct sur_group *closed)
{
    /* At most one group may close per call, so U+FFFD is dropped if the open group has no room for it. */
    size_t n = give_up_carry(a, text);
    if (n > 0 && !(a->open && a->group.n_bytes + n > SUR_GROUP_BYTES)) add_text(a, t1, text, n, closed);
    return close_group(a, closed);
}

bool sur_assembler_step(struct sur_assembler *a, int64_t step, enum sur_token_class class, const uint8_t *piece,
                        size_t n_bytes, char *text, struct sur_group *closed)
{
    int64_t t1 = (step + 1) * SUR_TOKEN_SAMPLES;
    bool did_close = false;
    size_t n;
    text[0] = 0;
    switch (class) {
    case SUR_TOKEN_TEXT:
        if (!a->open) open_group(a, t1);
        n = complete(a, piece, n_bytes, text);
        if (n > 0) did_close = add_text(a, t1, text, n, closed);
        a->group.n_pieces++;
        set_start(a);
        break;
    case SUR_TOKEN_WORD:
        did_close = close_group(a, closed);
        open_group(a, t1);
        break;
    case SUR_TOKEN_PAD:
        if (a->open && a->group.n_pieces > 0) did_close = close_group(a, closed);
        break;
    case SUR_TOKEN_EOS:
        did_close = end_text(a, t1, text, closed);
        break;
    case SUR_TOKEN_OTHER:
        break;
    }
    return did_close;
}

bool sur_assembler_finish(struct sur_assembler *a, char *text, struct sur_group *closed)
{
    /* With no group open, U+FFFD follows the last group directly. */
    return end_text(a, a->group.t1 + (a->open ? 0 : SUR_TOKEN_SAMPLES), text, closed);
}
