/* UTF-8: decoding, encoding, and making text from outside safe to print (docs/contract.md, "What we do not trust").
 *
 * Pure; any thread. Terminated strings unless a length is given. */
#ifndef SUR_UTIL_UTF8_H
#define SUR_UTIL_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SUR_UTF8_REPLACEMENT 0xFFFDu

/* Decodes one code point from bytes[0..n). Returns
 *   1 to 4  the number of bytes that it takes;
 *   0       bytes[0..n) is the valid beginning of a longer sequence;
 *   -k      the first k bytes are not valid UTF-8 (the maximal subpart, which one U+FFFD replaces).
 * Overlong forms, surrogates and values above U+10FFFF are not valid. *code_point is U+FFFD unless one was decoded. */
int sur_utf8_decode(const uint8_t *bytes, size_t n, uint32_t *code_point);
/* Writes 1 to 4 bytes and returns their number. A value that is not a code point is written as U+FFFD. */
int sur_utf8_encode(uint32_t code_point, char out[4]);
/* Returns false for C0, DEL, C1, bidirectional controls, U+2028, U+2029, and unassigned or private code points. */
bool sur_utf8_printable(uint32_t code_point);
/* Decodes the next code point of a complete text, n_bytes > 0, as one that is safe to print: U+FFFD for what is
 * invalid, cut or not printable. Returns the number of bytes that it takes. */
size_t sur_utf8_next(const char *text, size_t n_bytes, uint32_t *code_point);
/* Copies n_bytes of text to out [size], always terminated if size > 0. What is not valid or not printable becomes
 * U+FFFD. A text that does not fit is cut after a code point. */
void sur_utf8_clean(char *out, size_t size, const char *text, size_t n_bytes);
/* Returns the terminal columns of a printable code point: 0 for a combining character, 2 for a wide one. */
int sur_utf8_char_width(uint32_t code_point);
/* Returns the terminal columns of a text, as sur_utf8_clean would copy it. */
int sur_utf8_width(const char *text);

#endif
