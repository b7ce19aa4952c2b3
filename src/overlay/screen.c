#include "overlay/screen.h"

#include <stdlib.h>
#include <string.h>

#include "surtitle.h"
#include "util/failure.h"
#include "util/utf8.h"

static const struct cell blank = {.width = 1};

void screen_finish(struct screen *s)
{
    free(s->want);
    free(s->have);
    memset(s, 0, sizeof *s);
}

void screen_forget(struct screen *s)
{
    for (int i = 0; i < s->rows * s->cols; i++) s->have[i] = blank;
}

int screen_resize(struct screen *s, int rows, int cols)
{
    screen_finish(s);
    size_t n = (size_t)rows * (size_t)cols;
    s->want = calloc(n + 1, sizeof *s->want);
    s->have = calloc(n + 1, sizeof *s->have);
    if (!s->want || !s->have) {
        screen_finish(s);
        return failure(SUR_ERR_MEMORY, "not enough memory for the screen");
    }
    s->rows = rows;
    s->cols = cols;
    for (size_t i = 0; i < n; i++) s->want[i] = blank;
    screen_forget(s);
    return SUR_OK;
}

struct cell *screen_at(struct screen *s, int row, int col)
{
    return &s->want[(size_t)row * (size_t)s->cols + (size_t)col];
}

void screen_blank(struct screen *s, int row, int from, int to)
{
    for (int col = from; col < to; col++) *screen_at(s, row, col) = blank;
}

/* ---- text into cells ---- */

static void append(struct cell *cell, const char *bytes, size_t n)
{
    size_t used = strlen(cell->text);
    if (used + n >= sizeof cell->text) return; /* too many combining characters: the rest are dropped */
    memcpy(cell->text + used, bytes, n);
    cell->text[used + n] = 0;
}

int screen_put(struct screen *s, int row, int col, int to, const char *text, const struct screen_style *style)
{
    struct cell *last = NULL;
    if (to > s->cols) to = s->cols;
    while (*text) {
        uint32_t c;
        const char *bytes = text;
        size_t n = sur_utf8_next(bytes, strnlen(bytes, 4), &c);
        int width = sur_utf8_char_width(c);
        text += n;
        if (width == 0) {
            if (last) append(last, bytes, n);
            continue;
        }
        if (col + width > to) break;
        last = screen_at(s, row, col);
        *last =
            (struct cell){.width = (uint8_t)width, .attributes = style->attributes, .fg = style->fg, .bg = style->bg};
        append(last, bytes, n);
        for (int i = 1; i < width; i++) {
            *screen_at(s, row, col + i) = *last;
            screen_at(s, row, col + i)->width = 0;
            screen_at(s, row, col + i)->text[0] = 0;
        }
        col += width;
    }
    return col;
}

/* ---- cells to bytes ---- */

struct pen {
    uint16_t attributes;
    uint32_t fg, bg;
};

static bool same(const struct cell *a, const struct cell *b)
{
    return a->width == b->width && a->attributes == b->attributes && a->fg == b->fg && a->bg == b->bg &&
           strcmp(a->text, b->text) == 0;
}

static void put_colour(struct output *out, uint32_t colour, int base)
{
    uint32_t index = colour & 0xffffff;
    if (colour >> 24 == 2)
        output_printf(out, ";%d;2;%u;%u;%u", base + 8, index >> 16, index >> 8 & 255, index & 255);
    else if (colour >> 24 == 1 && index < 8)
        output_printf(out, ";%u", (unsigned)base + index);
    else if (colour >> 24 == 1 && index < 16)
        output_printf(out, ";%u", (unsigned)base + 60 + index - 8);
    else if (colour >> 24 == 1)
        output_printf(out, ";%d;5;%u", base + 8, index);
}

static void set_pen(struct output *out, struct pen *pen, const struct cell *cell)
{
    static const struct {
        uint16_t bit;
        const char *code;
    } codes[] = {{CELL_BOLD, ";1"},
                 {CELL_DIM, ";2"},
                 {CELL_ITALIC, ";3"},
                 {CELL_UNDERLINE, ";4"},
                 {CELL_DOUBLE_UNDERLINE, ";21"},
                 {CELL_CURLY_UNDERLINE, ";4:3"},
                 {CELL_BLINK, ";5"},
                 {CELL_REVERSE, ";7"},
                 {CELL_HIDDEN, ";8"},
                 {CELL_STRIKE, ";9"}};
    if (pen->attributes == cell->attributes && pen->fg == cell->fg && pen->bg == cell->bg) return;
    output_append(out, "\033[0", 3);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (cell->attributes & codes[i].bit) output_append(out, codes[i].code, strlen(codes[i].code));
    put_colour(out, cell->fg, 30);
    put_colour(out, cell->bg, 40);
    output_append(out, "m", 1);
    *pen = (struct pen){cell->attributes, cell->fg, cell->bg};
}

/* Returns whether the character at col differs, compared in whole: a wide character with both halves, and likewise what
 * replaces one. *n: the columns compared. */
static bool differs(const struct cell *want, const struct cell *have, int col, int cols, int *n)
{
    int end = col + 1;
    bool found = !same(&want[col], &have[col]);
    while (end < cols && (want[end].width == 0 || have[end].width == 0)) {
        found = found || !same(&want[end], &have[end]);
        end++;
    }
    *n = end - col;
    return found;
}

static void draw_cell(struct output *out, struct pen *pen, const struct cell *cell)
{
    set_pen(out, pen, cell);
    if (cell->width == 0 || !cell->text[0])
        output_append(out, " ", 1); /* half of a wide character cannot be shown */
    else
        output_append(out, cell->text, strlen(cell->text));
}

static bool draw_row(struct screen *s, int row, int top, struct output *out, struct pen *pen)
{
    struct cell *want = screen_at(s, row, 0), *have = s->have + (size_t)row * (size_t)s->cols;
    int at = -1; /* the cursor's column; -1: unknown */
    bool any = false;
    for (int col = 0, n; col < s->cols; col += n) {
        if (!differs(want, have, col, s->cols, &n)) continue;
        for (int i = col; i < col + n;) {
            int width = want[i].width == 2 && i + 1 < s->cols ? 2 : 1;
            struct cell cell = want[i];
            if (want[i].width > width) cell.width = 1, cell.text[0] = 0; /* its second half has no room */
            if (at != i) output_printf(out, "\033[%d;%dH", top + row + 1, i + 1);
            draw_cell(out, pen, &cell);
            i += width;
            /* terminals disagree on the widths of characters beyond ASCII */
            at = cell.text[0] && ((unsigned char)cell.text[0] >= 0x80 || cell.text[1]) ? -1 : i;
        }
        any = true;
    }
    if (any) memcpy(have, want, (size_t)s->cols * sizeof *have);
    return any;
}

bool screen_draw(struct screen *s, int top, struct output *out)
{
    struct pen pen = {0};
    bool any = false;
    for (int row = 0; row < s->rows; row++) any = draw_row(s, row, top, out, &pen) || any;
    if (pen.attributes || pen.fg || pen.bg) output_append(out, "\033[0m", 4);
    return any;
}
