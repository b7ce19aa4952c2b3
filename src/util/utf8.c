#include "util/utf8.h"

#include <string.h>
#include <utf8proc.h>

int sur_utf8_decode(const uint8_t *bytes, size_t n, uint32_t *code_point)
{
    *code_point = SUR_UTF8_REPLACEMENT;
    if (n == 0) return 0;
    uint8_t first = bytes[0], lowest = 0x80, highest = 0xbf;
    uint32_t value;
    int length;
    if (first < 0x80) {
        *code_point = first;
        return 1;
    }
    if (first < 0xc2 || first > 0xf4) return -1;
    if (first < 0xe0) {
        length = 2, value = first & 0x1fu;
    } else if (first < 0xf0) {
        length = 3, value = first & 0x0fu;
        if (first == 0xe0) lowest = 0xa0;  /* lower values have a shorter form */
        if (first == 0xed) highest = 0x9f; /* surrogates */
    } else {
        length = 4, value = first & 0x07u;
        if (first == 0xf0) lowest = 0x90;
        if (first == 0xf4) highest = 0x8f; /* past U+10FFFF */
    }
    for (int i = 1; i < length; i++) {
        if ((size_t)i == n) return 0;
        if (bytes[i] < lowest || bytes[i] > highest) return -i;
        value = value << 6 | (bytes[i] & 0x3fu);
        lowest = 0x80, highest = 0xbf; /* only the second byte has a narrower range */
    }
    *code_point = value;
    return length;
}

int sur_utf8_encode(uint32_t c, char out[4])
{
    if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) c = SUR_UTF8_REPLACEMENT;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

static bool is_bidi_control(uint32_t c)
{
    return c == 0x061c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

bool sur_utf8_printable(uint32_t c)
{
    if (c < 0x7f) return c >= 0x20; /* the common case needs no table */
    if (c > 0x10ffff || is_bidi_control(c)) return false;
    switch (utf8proc_category((utf8proc_int32_t)c)) {
    case UTF8PROC_CATEGORY_CC: /* DEL and C1 */
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_ZL: /* U+2028 */
    case UTF8PROC_CATEGORY_ZP: /* U+2029 */
        return false;
    default:
        return true;
    }
}

size_t sur_utf8_next(const char *text, size_t n_bytes, uint32_t *code_point)
{
    int took = sur_utf8_decode((const uint8_t *)text, n_bytes, code_point);
    if (took == 0) return n_bytes; /* cut at the end: one U+FFFD for the rest */
    if (took < 0) return (size_t)-took;
    if (!sur_utf8_printable(*code_point)) *code_point = SUR_UTF8_REPLACEMENT;
    return (size_t)took;
}

void sur_utf8_clean(char *out, size_t size, const char *text, size_t n_bytes)
{
    if (size == 0) return;
    size_t used = 0;
    for (size_t i = 0; i < n_bytes;) {
        uint32_t c;
        char bytes[4];
        i += sur_utf8_next(text + i, n_bytes - i, &c);
        size_t n = (size_t)sur_utf8_encode(c, bytes);
        if (used + n >= size) break;
        memcpy(out + used, bytes, n);
        used += n;
    }
    out[used] = 0;
}

int sur_utf8_char_width(uint32_t code_point)
{
    return code_point < 0x7f ? 1 : utf8proc_charwidth((utf8proc_int32_t)code_point);
}

int sur_utf8_width(const char *text)
{
    size_t n = strlen(text);
    int width = 0;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        i += sur_utf8_next(text + i, n - i, &c);
        width += sur_utf8_char_width(c);
    }
    return width;
}
