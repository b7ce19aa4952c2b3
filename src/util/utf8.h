/* UTF-8: decoding, and making text from outside safe to print (contract: "What we do not trust"). */
#ifndef SUR_UTIL_UTF8_H
#define SUR_UTIL_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SUR_UTF8_REPLACEMENT 0xFFFDu

/* Decodes one code point from bytes[0..n). Returns how many bytes it took (1 to 4), 0 when they are a valid but
 * incomplete beginning, or -k when the first k bytes are no UTF-8 (the maximal subpart that U+FFFD replaces).
 * Overlong forms, surrogates and values past U+10FFFF are no UTF-8. *code_point is U+FFFD unless one was decoded. */
int sur_utf8_decode(const uint8_t *bytes, size_t n, uint32_t *code_point);
/* Writes 1 to 4 bytes; returns how many. What is no code point is written as U+FFFD. */
int sur_utf8_encode(uint32_t code_point, char out[4]);
/* Whether a code point may be printed: not C0, DEL, C1, a bidirectional control, U+2028/2029, unassigned or private. */
bool sur_utf8_printable(uint32_t code_point);
/* Copies text into out (size bytes, always terminated), everything unprintable or broken as U+FFFD; cuts at a code
 * point. */
void sur_utf8_clean(char *out, size_t size, const char *text, size_t n_bytes);
/* Columns on a terminal: 0 for combining marks, 2 for wide characters; what clean would replace counts as U+FFFD, 1. */
int sur_utf8_width(const char *text);

#endif
