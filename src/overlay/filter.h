/* Filters what a program writes to its terminal before the emulator gets it. The filter reports the modes that change
 * what a terminal sends, and the titles. It drops every other control string (OSC, DCS, APC, PM, SOS) except DECRQSS,
 * which the emulator answers. Sequences may arrive in pieces of any size.
 *
 * It also drops what libvterm 0.1.4 does not survive: the arguments of a sequence after FILTER_ARGS and their digits
 * after the fifth, control characters as UTF-8, REP of anything but ASCII, control strings at unexpected places, and
 * more than FILTER_MARKS combining characters on one base character.
 *
 * libvterm does not support faint and hidden text (SGR 2 and 8). The filter encodes both as a font: FILTER_FAINT,
 * FILTER_HIDDEN, or their sum. Fonts that the program selects itself (SGR 10 to 19) have no effect.
 *
 * Pure; one thread at a time per filter. Nothing is allocated, and no call fails. */
#ifndef FILTER_H
#define FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FILTER_STRING = 512, FILTER_ARGS = 16, FILTER_MARKS = 5 };
enum { FILTER_FAINT = 1, FILTER_HIDDEN = 2 };
#define FILTER_ROOM(n) (4 * (n) + 32) /* the most bytes that filter_feed writes for n */

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

/* Called while filter_feed runs, in the order of the bytes. */
struct filter_calls {
    /* A mode was set. value: 0 is off; for MODE_MODIFY_KEYS it is the level. */
    void (*mode)(void *user, enum input_mode mode, int value);
    /* The title was set: at most FILTER_STRING bytes, terminated, not checked in any way. */
    void (*title)(void *user, const char *title);
    /* Returns whether the emulator combines this character with the one before it. If so, *code may be changed to the
     * character to pass on instead, 0 for none. NULL: the emulator combines no characters. */
    bool (*joins)(void *user, uint32_t *code);
    void *user;
};

struct filter {
    struct filter_calls calls;
    int state, kind; /* of the sequence that is being read; private to filter.c */
    char leader, between;
    int args[FILTER_ARGS], n_args;
    unsigned parts;            /* bit i: argument i follows a colon, so it belongs to the argument before it */
    unsigned font, saved_font; /* FILTER_FAINT, FILTER_HIDDEN: current, and saved with the cursor */
    char string[FILTER_STRING];
    size_t n_string;
    bool too_long, too_many;
    bool repeatable;       /* the last character is ASCII */
    unsigned char text[4]; /* an incomplete character */
    size_t n_text;
    int n_marks; /* combining characters since the last base character */
};

void filter_init(struct filter *f, const struct filter_calls *calls);
/* Writes at most FILTER_ROOM(n) bytes for the emulator; returns how many. */
size_t filter_feed(struct filter *f, const char *bytes, size_t n, char *out);

#endif
