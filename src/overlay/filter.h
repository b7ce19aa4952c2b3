/* What a program writes to its terminal, on the way to the emulator: sees the modes that change what a terminal sends,
 * and its titles; drops every other string (OSC, DCS, APC, PM, SOS) but DECRQSS, which the emulator answers. Pure.
 *
 * What the emulator (libvterm 0.1.4) would not survive does not pass either: a sequence's arguments past FILTER_ARGS
 * and their digits past the fifth, control characters as UTF-8, REP of anything but ASCII, strings in odd places, more
 * than FILTER_MARKS combining characters on one base character.
 *
 * libvterm does not know faint and hidden text (SGR 2 and 8). Both go through it as one of its fonts: font
 * FILTER_FAINT, FILTER_HIDDEN, or their sum. Fonts that the program chooses itself (SGR 10 to 19) have no effect.
 *
 * Sequences may arrive in pieces of any size. */
#ifndef FILTER_H
#define FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FILTER_STRING = 512, FILTER_ARGS = 16, FILTER_MARKS = 5 };
enum { FILTER_FAINT = 1, FILTER_HIDDEN = 2 };
#define FILTER_ROOM(n) (4 * (n) + 32) /* bytes that n may become */

enum input_mode {
    MODE_CURSOR_KEYS, /* ?1 */
    MODE_KEYPAD,      /* ?66, ESC =, ESC > */
    MODE_MOUSE_CLICK, /* ?1000 */
    MODE_MOUSE_DRAG,  /* ?1002 */
    MODE_MOUSE_MOVE,  /* ?1003 */
    MODE_FOCUS,       /* ?1004 */
    MODE_MOUSE_SGR,   /* ?1006 */
    MODE_PASTE,       /* ?2004 */
    MODE_MODIFY_KEYS, /* modifyOtherKeys: CSI > 4 ; value m */
    MODES
};

struct filter_calls {
    /* In the order of the bytes. value: 0 off, else on; of MODE_MODIFY_KEYS its level. */
    void (*mode)(void *user, enum input_mode mode, int value);
    /* Not cleaned, not more than FILTER_STRING bytes, terminated. */
    void (*title)(void *user, const char *title);
    /* Returns whether the emulator adds this character to the one before it. If so, *code becomes the character to pass
     * instead, or 0 to pass none. NULL: the emulator adds none. */
    bool (*joins)(void *user, uint32_t *code);
    void *user;
};

struct filter {
    struct filter_calls calls;
    int state, kind; /* private to filter.c */
    char leader, between;
    int args[FILTER_ARGS], n_args;
    unsigned parts;            /* bit i: argument i continues the one before it, after a colon */
    unsigned font, saved_font; /* FILTER_FAINT, FILTER_HIDDEN: now, and where the cursor was saved */
    char string[FILTER_STRING];
    size_t n_string;
    bool too_long, too_many;
    bool repeatable;       /* the last character is ASCII */
    unsigned char text[4]; /* the beginning of a character */
    size_t n_text;
    int n_marks; /* combining characters since the last base character */
};

void filter_init(struct filter *f, const struct filter_calls *calls);
/* Writes at most FILTER_ROOM(n) bytes for the emulator; returns how many. */
size_t filter_feed(struct filter *f, const char *bytes, size_t n, char *out);

#endif
