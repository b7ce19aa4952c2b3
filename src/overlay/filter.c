#include "overlay/filter.h"

#include <string.h>

enum state { GROUND, ESCAPE, ESCAPE_MORE, CSI, STRING, STRING_ESCAPE };

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

static void end_csi(struct filter *f, char final)
{
    if (f->leader == '?' && !f->between && (final == 'h' || final == 'l')) {
        for (int i = 0; i < f->n_args; i++)
            if (mode_of(f->args[i]) >= 0)
                f->calls.mode(f->calls.user, (enum input_mode)mode_of(f->args[i]), final == 'h');
    } else if (f->leader == '>' && !f->between && (final == 'm' || final == 'n') && f->args[0] == 4) {
        f->calls.mode(f->calls.user, MODE_MODIFY_KEYS, final == 'm' && f->n_args > 1 ? f->args[1] : 0);
    } else if (f->leader == '>' && !f->between && final == 'm' && f->args[0] == 0 && f->n_args == 1) {
        f->calls.mode(f->calls.user, MODE_MODIFY_KEYS, 0); /* all of them back */
    } else if (!f->leader && f->between == '!' && final == 'p') {
        reset_modes(f, false);
    }
}

static void in_csi(struct filter *f, unsigned char c)
{
    if (c >= '0' && c <= '9') {
        int *arg = &f->args[f->n_args - 1];
        if (*arg < 100000) *arg = *arg * 10 + (c - '0');
    } else if (c == ';' || c == ':') {
        if (f->n_args < FILTER_ARGS) f->args[f->n_args++] = 0;
    } else if (c >= 0x3c && c <= 0x3f) {
        f->leader = (char)c;
    } else if (c >= 0x20 && c <= 0x2f) {
        f->between = (char)c;
    } else if (c >= 0x40 && c < 0x7f) {
        end_csi(f, (char)c);
        f->state = GROUND;
    }
}

/* Returns how many bytes it wrote. */
static size_t end_string(struct filter *f, char *out)
{
    f->state = GROUND;
    f->string[f->n_string] = 0;
    if (f->too_long) return 0;
    if (f->kind == ']' && f->n_string >= 2 && strchr("012", f->string[0]) && f->string[1] == ';')
        f->calls.title(f->calls.user, f->string + 2);
    if (f->kind != 'P' || strncmp(f->string, "$q", 2) != 0) return 0;
    memcpy(out, "\033P", 2);
    memcpy(out + 2, f->string, f->n_string);
    memcpy(out + 2 + f->n_string, "\033\\", 2);
    return f->n_string + 4;
}

static size_t after_escape(struct filter *f, char c, char *out)
{
    if (strchr("]P_^X", c) && c) {
        f->state = STRING;
        f->kind = c;
        f->n_string = 0;
        f->too_long = false;
        return 0;
    }
    f->state = GROUND;
    if (c == '[') {
        f->state = CSI;
        f->leader = f->between = 0;
        f->n_args = 1;
        f->args[0] = 0;
    } else if (c >= 0x20 && c <= 0x2f) {
        f->state = ESCAPE_MORE;
    } else if (c == '=' || c == '>') {
        f->calls.mode(f->calls.user, MODE_KEYPAD, c == '=');
    } else if (c == 'c') {
        reset_modes(f, true);
    }
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

/* One byte; returns how many bytes it wrote. An escape that begins is held until its next byte is there. */
static size_t step(struct filter *f, char c, char *out)
{
    if (f->state == STRING || f->state == STRING_ESCAPE) {
        if (f->state == STRING_ESCAPE && c == '\\') return end_string(f, out);
        if (f->state == STRING_ESCAPE) { /* another sequence cuts it off */
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
    if (c == '\033') { /* it also cancels what it stands in */
        f->state = ESCAPE;
        return 0;
    }
    if (f->state == ESCAPE) return after_escape(f, c, out);
    if (c == 0x18 || c == 0x1a)
        f->state = GROUND;
    else if (f->state == CSI)
        in_csi(f, (unsigned char)c);
    else if (f->state == ESCAPE_MORE && (unsigned char)c >= 0x30)
        f->state = GROUND;
    out[0] = c;
    return 1;
}

size_t filter_feed(struct filter *f, const char *bytes, size_t n, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++) used += step(f, bytes[i], out + used);
    return used;
}
