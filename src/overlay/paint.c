#include "overlay/paint.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "util/utf8.h"

enum { COMMON_WIDTH = 80, METER = 8, QUIETEST_DB = -48 };

/* In a small terminal, captions get fewer rows, and the program keeps its own as long as possible. */
static int caption_rows(int rows)
{
    return rows >= 16 ? 3 : rows >= 8 ? 2 : rows >= 3 ? 1 : 0;
}

void layout_make(struct layout *l, int rows, int cols, bool program, int width)
{
    int state = rows >= 5 ? 1 : 0;
    *l = (struct layout){.rows = rows, .cols = cols, .caption_rows = caption_rows(rows)};
    int ours = l->caption_rows + state;
    l->program_rows = program ? rows - ours : 0;
    l->screen_rows = program ? rows : ours;
    l->top = program ? 0 : rows - ours;
    l->status_row = state ? l->program_rows : -1;
    l->caption_row = l->program_rows + state;
    if (width == 0) width = COMMON_WIDTH;
    l->width = width < cols ? width : cols;
    l->margin = (cols - l->width) / 2;
}

void paint_captions(struct screen *s, const struct layout *l, const struct captions *c)
{
    static const struct screen_style style = {.attributes = CELL_BOLD};
    for (int i = 0; i < l->caption_rows; i++) {
        int row = l->caption_row + i, from = c->rows - l->caption_rows + i;
        screen_blank(s, row, 0, l->cols);
        if (from >= 0) screen_put(s, row, l->margin, l->margin + l->width, c->row[from], &style);
    }
}

/* "[||||    ]": from -48 dB to full scale. */
static int paint_meter(struct screen *s, int row, int col, float level, bool colour)
{
    static const uint32_t colours[METER] = {2, 2, 2, 2, 2, 3, 3, 1};
    struct screen_style dim = {.attributes = CELL_DIM}, bar = {0};
    double db = level > 0 ? 20 * log10((double)level) : QUIETEST_DB;
    int lit = (int)ceil((db - QUIETEST_DB) * METER / -QUIETEST_DB);
    col = screen_put(s, row, col, s->cols, "[", &dim);
    for (int i = 0; i < METER; i++) {
        bar.fg = colour ? CELL_INDEXED(colours[i]) : 0;
        col = screen_put(s, row, col, s->cols, i < lit ? "|" : " ", &bar);
    }
    return screen_put(s, row, col, s->cols, "]", &dim);
}

static bool is_inside(char c) /* a continuation byte of UTF-8 */
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* Shortens a problem line to at most `columns`: to the part before its first ": ", or by leaving out its middle. */
static void shorten(char *out, size_t size, const char *problem, int columns)
{
    char text[OVERLAY_PROBLEM_BYTES];
    snprintf(text, sizeof text, "%s", problem);
    char *colon = strstr(text, ": ");
    if (sur_utf8_width(text) > columns && colon) *colon = 0;
    snprintf(out, size, "%s", text);
    if (sur_utf8_width(text) <= columns || columns < 8) return;
    const char *end = text;
    while (sur_utf8_width(end) > (columns - 3) / 2 || is_inside(*end)) end++;
    int left = columns - 3 - sur_utf8_width(end);
    size_t n = strlen(text);
    do {
        do n--;
        while (is_inside(out[n]));
        out[n] = 0;
    } while (sur_utf8_width(out) > left);
    snprintf(out + n, size - n, "...%s", end);
}

void paint_status_line(struct screen *s, const struct layout *l, const struct overlay_state *state, const char *problem,
                       bool colour)
{
    struct screen_style dim = {.attributes = CELL_DIM}, wrong = {.attributes = CELL_BOLD};
    char lag[32] = "", short_form[2 * OVERLAY_PROBLEM_BYTES];
    if (l->status_row < 0) return;
    if (colour) wrong.fg = CELL_INDEXED(1);
    screen_blank(s, l->status_row, 0, l->cols);
    int col = paint_meter(s, l->status_row, l->margin, state->level, colour);
    if (state->lag_seconds >= 0) snprintf(lag, sizeof lag, "  lag %.1f s", (double)state->lag_seconds);
    /* if there is no room for all, the problem has priority over the name, and the name over the lag */
    int left = l->cols - col - (problem[0] ? 2 + sur_utf8_width(problem) : 0);
    bool has_name = !problem[0] || 1 + sur_utf8_width(state->name) + sur_utf8_width(lag) <= left;
    if (has_name) {
        col = screen_put(s, l->status_row, col, l->cols, " ", &dim);
        col = screen_put(s, l->status_row, col, l->cols, state->name, &dim);
    }
    if (has_name || sur_utf8_width(lag) <= left) col = screen_put(s, l->status_row, col, l->cols, lag, &dim);
    if (!problem[0]) return;
    shorten(short_form, sizeof short_form, problem, l->cols - col - 2);
    col = screen_put(s, l->status_row, col, l->cols, "  ", &dim);
    screen_put(s, l->status_row, col, l->cols, short_form, &wrong);
}
