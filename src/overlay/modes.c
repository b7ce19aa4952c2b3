#include "overlay/modes.h"

#include <string.h>

#include "overlay/os_term.h"
#include "util/utf8.h"

void modes_init(struct modes *m)
{
    memset(m, 0, sizeof *m);
    for (int i = 0; i < MODES; i++) m->order[i].mode = (enum input_mode)i;
}

/* Keeps the order in which modes are set: of the mouse modes, the last one set is in effect. */
void modes_set(struct modes *m, enum input_mode mode, int value)
{
    int at = 0;
    while (m->order[at].mode != mode) at++;
    if (value == 0 && m->order[at].value == 0) return;
    for (; at + 1 < MODES; at++) m->order[at] = m->order[at + 1];
    m->order[at].mode = mode;
    m->order[at].value = value;
    m->order[at].changed = true;
}

void modes_set_title(struct modes *m, const char *title)
{
    sur_utf8_clean(m->title, sizeof m->title, title, strlen(title));
    m->title_changed = true;
}

void modes_resend(struct modes *m)
{
    for (int i = 0; i < MODES; i++) m->order[i].changed = m->order[i].value != 0;
    m->titled = false;
    if (m->title[0]) m->title_changed = true;
}

static void append_mode(struct output *out, enum input_mode mode, int value)
{
    static const int numbers[MODES] = {
        [MODE_CURSOR_KEYS] = 1, [MODE_MOUSE_CLICK] = 1000, [MODE_MOUSE_DRAG] = 1002, [MODE_MOUSE_MOVE] = 1003,
        [MODE_FOCUS] = 1004,    [MODE_MOUSE_SGR] = 1006,   [MODE_PASTE] = 2004};
    if (mode == MODE_KEYPAD)
        output_printf(out, "\033%c", value ? '=' : '>');
    else if (mode == MODE_MODIFY_KEYS && value)
        output_printf(out, "\033[>4;%dm", value);
    else if (mode == MODE_MODIFY_KEYS)
        output_printf(out, "\033[>4m");
    else
        output_printf(out, "\033[?%d%c", numbers[mode], value ? 'h' : 'l');
}

void modes_append(struct modes *m, struct output *out)
{
    for (int i = 0; i < MODES; i++) {
        os_term_note_mode(m->order[i].mode, m->order[i].value != 0);
        if (m->order[i].changed) append_mode(out, m->order[i].mode, m->order[i].value);
        m->order[i].changed = false;
    }
    if (!m->title_changed) return;
    os_term_note_title();
    if (!m->titled) output_printf(out, "\033[22;0t"); /* saves the title, which os_term_restore brings back */
    output_printf(out, "\033]0;%s\a", m->title);
    m->titled = true;
    m->title_changed = false;
}
