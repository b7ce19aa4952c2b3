#include "overlay/filter.h"

#include <stdio.h>
#include <string.h>

#include "util/utf8.h"

/* In the order in which the parts of a control sequence appear. */
enum state { GROUND, ESCAPE, ESCAPE_MORE, CSI_LEADER, CSI_ARGS, CSI_BETWEEN, STRING, STRING_ESCAPE };

enum { CANCEL = 0x18, INVALID = (char)0x80 /* alone it is decoded as U+FFFD */, MAX_ARG = 10000 };

void filter_init(struct filter *f, const struct filter_calls *calls)
{
    memset(f, 0, sizeof *f);
    f->calls = *calls;
}

static void reset_modes(struct filter *f, bool all)
{
    for (int m = 0; m < MODES; m++)
        if (all || m == MODE_CURSOR_KEYS || m == MODE_KEYPAD) f->calls.mode(f->calls.user, (enum input_mode)m, 0);
}

static int mode_of(int number)
{
    switch (number) {
    case 1:
        return MODE_CURSOR_KEYS;
    case 66:
        return MODE_KEYPAD;
    case 1000:
        return MODE_MOUSE_CLICK;
    case 1002:
        return MODE_MOUSE_DRAG;
    case 1003:
        return MODE_MOUSE_MOVE;
    case 1004:
        return MODE_FOCUS;
    case 1006:
        return MODE_MOUSE_SGR;
    case 2004:
        return MODE_PASTE;
    default:
        return -1;
    }
}

static void save_font(struct filter *f, bool restore)
{
    if (restore)
        f->font = f->saved_font;
    else
        f->saved_font = f->font;
}

/* Returns how many of the following arguments belong to a colour. */
static int colour_args(const struct filter *f, int at)
{
    if (at + 1 >= f->n_args || (f->parts >> (at + 1) & 1)) return 0;
    return f->args[at + 1] == 5 ? 2 : f->args[at + 1] == 2 ? 4 : 1;
}

/* Ends an SGR: writes the font that stands for faint and hidden text. Returns the number of bytes written. */
static size_t set_font(struct filter *f, char *out)
{
    unsigned before = f->font;
    bool chosen = false;
    for (int i = 0; i < f->n_args; i++) {
        int arg = f->args[i];
        if (f->parts >> i & 1) continue;
        if (arg == 0) f->font = 0;
        if (arg == 2) f->font |= FILTER_FAINT;
        if (arg == 22) f->font &= ~(unsigned)FILTER_FAINT;
        if (arg == 8) f->font |= FILTER_HIDDEN;
        if (arg == 28) f->font &= ~(unsigned)FILTER_HIDDEN;
        if (arg >= 10 && arg <= 19) chosen = true;
        if (arg == 38 || arg == 48 || arg == 58) i += colour_args(f, i);
    }
    if (!before && !f->font && !chosen) return 0;
    return (size_t)sprintf(out, "\033[%um", 10 + f->font);
}

/* Ends a control sequence. Returns false if it must be cancelled. */
static bool end_csi(struct filter *f, char final)
{
    if (final == 'b' && !f->repeatable) return false;
    if (f->leader == '?' && !f->between && (final == 'h' || final == 'l')) {
        for (int i = 0; i < f->n_args; i++) {
            if (mode_of(f->args[i]) >= 0)
                f->calls.mode(f->calls.user, (enum input_mode)mode_of(f->args[i]), final == 'h');
            if (f->args[i] == 1048 || f->args[i] == 1049) save_font(f, final == 'l');
        }
    } else if (f->leader == '>' && !f->between && (final == 'm' || final == 'n') && f->args[0] == 4) {
        f->calls.mode(f->calls.user, MODE_MODIFY_KEYS, final == 'm' && f->n_args > 1 ? f->args[1] : 0);
    } else if (f->leader == '>' && !f->between && final == 'm' && f->args[0] == 0 && f->n_args == 1) {
        f->calls.mode(f->calls.user, MODE_MODIFY_KEYS, 0); /* resets all key modes */
    } else if (!f->leader && f->between == '!' && final == 'p') {
        reset_modes(f, false);
        f->font = 0;
    }
    return true;
}

/* Returns whether a byte of the arguments passes: libvterm 0.1.4 overflows its argument array and its numbers. */
static bool in_args(struct filter *f, char c)
{
    int *arg = &f->args[f->n_args - 1];
    f->state = CSI_ARGS;
    if (c == ';' || c == ':') {
        f->too_many = f->too_many || f->n_args == FILTER_ARGS;
        if (!f->too_many && c == ':') f->parts |= 1u << f->n_args;
        if (!f->too_many) f->args[f->n_args++] = 0;
    } else if (!f->too_many && *arg < MAX_ARG) {
        *arg = *arg * 10 + (c - '0');
        return true;
    } else {
        return false;
    }
    return !f->too_many;
}

/* Returns the number of bytes written. A byte at the wrong place ends the sequence without effect. */
static size_t in_csi(struct filter *f, unsigned char c, char *out)
{
    out[0] = (char)c;
    if (c >= 0x30 && c <= 0x3b && f->state <= CSI_ARGS) return in_args(f, (char)c);
    if (c >= 0x3c && c <= 0x3f && f->state == CSI_LEADER) {
        f->leader = f->leader ? '!' : (char)c; /* two leaders: not a known sequence */
    } else if (c >= 0x20 && c <= 0x2f) {
        f->state = CSI_BETWEEN;
        f->between = f->between ? '?' : (char)c; /* likewise */
    } else {
        f->state = GROUND;
        if (c < 0x40 || c >= 0x7f || !end_csi(f, (char)c)) out[0] = CANCEL;
        if (c == 'm' && !f->leader && !f->between) return 1 + set_font(f, out + 1);
    }
    return 1;
}

/* The DECRQSS requests that libvterm answers. For any other it reads through an uninitialised pointer. */
static bool is_answered(const char *string)
{
    static const char *const known[] = {"$qm", "$qr", "$qs", "$q q", "$q\"q"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(string, known[i]) == 0) return true;
    return false;
}

/* Returns the number of bytes written. */
static size_t end_string(struct filter *f, char *out)
{
    f->state = GROUND;
    f->string[f->n_string] = 0;
    if (f->too_long) return 0;
    if (f->kind == ']' && f->n_string >= 2 && strchr("012", f->string[0]) && f->string[1] == ';')
        f->calls.title(f->calls.user, f->string + 2);
    if (f->kind != 'P' || !is_answered(f->string)) return 0;
    return (size_t)sprintf(out, "\033P%s\033\\", f->string);
}

static size_t after_escape(struct filter *f, char c, char *out)
{
    if (strchr("]P_^X", c)) {
        f->state = STRING;
        f->kind = c;
        f->n_string = 0;
        f->too_long = false;
        return 0;
    }
    f->state = GROUND;
    if (c == '[') {
        f->state = CSI_LEADER;
        f->leader = f->between = 0;
        f->too_many = false;
        f->n_args = 1;
        f->args[0] = 0;
        f->parts = 0;
    } else if (c <= 0x2f) {
        f->state = ESCAPE_MORE;
    } else if (c == '=' || c == '>') {
        f->calls.mode(f->calls.user, MODE_KEYPAD, c == '=');
    } else if (c == 'c') {
        reset_modes(f, true);
        f->font = 0;
    } else if (c == '7' || c == '8') {
        save_font(f, c == '8');
    }
    if (c == '8')
        return (size_t)sprintf(out,
                               "\033[?1048l"); /* the same as ESC 8, but libvterm then keeps the cursor on the screen */
    out[0] = '\033';
    out[1] = c;
    return 2;
}

static void in_string(struct filter *f, char c)
{
    if (f->n_string + 1 < sizeof f->string)
        f->string[f->n_string++] = c;
    else
        f->too_long = true;
}

/* Passes text on, one complete character at a time. */
static size_t in_ground(struct filter *f, unsigned char c, char *out)
{
    uint32_t code;
    f->text[f->n_text++] = c;
    int n = sur_utf8_decode(f->text, f->n_text, &code);
    if (n == 0) return 0;
    bool begins_next = n < 0 && f->n_text > 1;
    f->n_text = 0;
    f->repeatable = n > 0 && code < 0x80;
    out[0] = INVALID;
    if (begins_next) return 1 + in_ground(f, c, out + 1);
    if (n > 0 && code >= 0xa0 && f->calls.joins && f->calls.joins(f->calls.user, &code)) {
        if (code == 0 || f->n_marks == FILTER_MARKS) return 0;
        f->n_marks++;
        return (size_t)sur_utf8_encode(code, out);
    }
    f->n_marks = 0;
    if (n < 0 || (code >= 0x80 && code < 0xa0)) return 1;
    memcpy(out, f->text, (size_t)n);
    return (size_t)n;
}

static size_t step_string(struct filter *f, char c, char *out);

/* Processes one byte; returns the number of bytes written. An ESC is held until the next byte arrives. Bytes at
 * unexpected places are treated as the emulator treats them, so that both stay in the same state. */
static size_t step(struct filter *f, char byte, char *out)
{
    unsigned char c = (unsigned char)byte;
    if (f->state >= STRING) return step_string(f, byte, out);
    if (c == 0 || c == 0x7f) return 0;
    if (f->n_text && c < 0x20) {
        f->n_text = 0;
        out[0] = INVALID;
        return 1 + step(f, byte, out + 1);
    }
    out[0] = byte;
    if (c == 0x1b) { /* also cancels the current sequence */
        f->state = ESCAPE;
        return 0;
    }
    if (c == 0x18 || c == 0x1a) f->state = GROUND;
    if (c < 0x20) return 1; /* control characters act inside sequences, too */
    if (f->state == GROUND) return in_ground(f, c, out);
    if (f->state >= CSI_LEADER) return in_csi(f, c, out);
    if (c >= 0x80) return 0;
    if (f->state == ESCAPE) return after_escape(f, byte, out);
    if (c >= 0x30) f->state = GROUND;
    if (strchr("P[]", byte)) out[0] = CANCEL; /* not a character set; libvterm would begin a string */
    return 1;
}

static size_t step_string(struct filter *f, char c, char *out)
{
    if (f->state == STRING_ESCAPE && c == '\\') return end_string(f, out);
    if (f->state == STRING_ESCAPE) { /* another sequence begins, which ends the string */
        f->state = ESCAPE;
        return step(f, c, out);
    }
    if (c == '\a' && f->kind == ']') return end_string(f, out);
    if (c == 0x18 || c == 0x1a)
        f->state = GROUND;
    else if (c == '\033')
        f->state = STRING_ESCAPE;
    else
        in_string(f, c);
    return 0;
}

size_t filter_feed(struct filter *f, const char *bytes, size_t n, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) used += step(f, bytes[i], out + used);
    return used;
}
