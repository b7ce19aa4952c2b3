/* Tokens to text: bytes to UTF-8 with carry, and groups of words with their times. Pure; decode thread only.
 *
 * A [STREAMING_WORD] at step k opens a group with t1 = (k + 1) * 80 ms. It closes at the first pad after a piece, the
 * next marker, EOS or the end. t0 is the later of the previous group's t1 and t1 - 80 ms * max(3, 2 * pieces).
 * A piece with no group open opens one. A group of more than SUR_GROUP_BYTES closes early, at a piece; a piece of more
 * than that is cut, at a character. A group without text is dropped. The beginning of a character waits for the rest
 * across pads and markers; only bytes that do not continue it, EOS or the end make it U+FFFD. */
#ifndef SUR_TEXT_ASSEMBLE_H
#define SUR_TEXT_ASSEMBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SUR_GROUP_BYTES = 960, SUR_STEP_TEXT_BYTES = 1024 };

struct sur_group {
    int64_t t0, t1; /* samples at 16 kHz */
    int n_pieces;
    size_t n_bytes;
    char text[SUR_GROUP_BYTES + 1]; /* UTF-8, printable, terminated */
};

enum sur_token_class { SUR_TOKEN_TEXT, SUR_TOKEN_PAD, SUR_TOKEN_WORD, SUR_TOKEN_EOS, SUR_TOKEN_OTHER };

struct sur_assembler {
    uint8_t carry[4]; /* the beginning of a character that is not complete yet */
    int n_carry;
    bool open; /* a group is open */
    struct sur_group group;
    int64_t last_t1; /* of the previous group */
};

void sur_assembler_init(struct sur_assembler *a);
/* One step. Writes the text that it completed to text (size SUR_STEP_TEXT_BYTES, terminated, often "") and returns
 * true when it closed a group, copied to *closed. A broken or cut character becomes U+FFFD. */
bool sur_assembler_step(struct sur_assembler *a, int64_t step, enum sur_token_class class, const uint8_t *piece,
                        size_t n_bytes, char *text, struct sur_group *closed);
/* The end of the stream: what was carried, and the open group. */
bool sur_assembler_finish(struct sur_assembler *a, char *text, struct sur_group *closed);

#endif
