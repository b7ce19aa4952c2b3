/* Tokens to text: bytes to UTF-8, and words to groups with times.
 *
 * A [STREAMING_WORD] at step k opens a group with t1 = (k + 1) * 80 ms. The group closes at the first pad after a
 * piece, at the next marker, at EOS, or at the end of the stream. t0 is the later of the previous group's t1 and t1 -
 * 80 ms * max(3, 2 * pieces). A piece opens a group if none is open. A group closes early, between two pieces, before
 * it exceeds SUR_GROUP_BYTES; a longer piece is cut after a character. A group without text is dropped.
 *
 * Bytes that begin a character are carried over pads and markers until the rest arrives. They become U+FFFD only if
 * bytes follow that do not continue them, at EOS, or at the end.
 *
 * Pure; one thread at a time per assembler (the decode thread). Nothing is allocated, and no call fails.
 * Units: times in samples at 16 kHz. */
#ifndef SUR_TEXT_ASSEMBLE_H
#define SUR_TEXT_ASSEMBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SUR_GROUP_BYTES = 960, SUR_STEP_TEXT_BYTES = 1024 };

struct sur_group {
    int64_t t0, t1;
    int n_pieces;
    size_t n_bytes;
    char text[SUR_GROUP_BYTES + 1]; /* UTF-8, printable, terminated */
};

enum sur_token_class { SUR_TOKEN_TEXT, SUR_TOKEN_PAD, SUR_TOKEN_WORD, SUR_TOKEN_EOS, SUR_TOKEN_OTHER };

struct sur_assembler {
    uint8_t carry[4]; /* the first bytes of an incomplete character */
    int n_carry;
    bool open; /* a group is open */
    struct sur_group group;
    int64_t last_t1; /* of the previous group */
};

void sur_assembler_init(struct sur_assembler *a);
/* Processes one step's token. piece [n_bytes]: its bytes. Writes the text that the step completed to text
 * [SUR_STEP_TEXT_BYTES], terminated and often empty. Returns whether a group closed, and copies it to *closed. */
bool sur_assembler_step(struct sur_assembler *a, int64_t step, enum sur_token_class class, const uint8_t *piece,
                        size_t n_bytes, char *text, struct sur_group *closed);
/* Ends the stream: completes the carry, and closes the open group. Results as above. */
bool sur_assembler_finish(struct sur_assembler *a, char *text, struct sur_group *closed);

#endif
