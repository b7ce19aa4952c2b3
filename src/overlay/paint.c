#include "overlay/paint.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { COMMON_WIDTH = 80, METER = 8, QUIETEST_DB = -48 };

/* Below some height captions give way, the program's rows last. */
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
    l->state_row = state ? l->program_rows : -1;
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

void paint_state(struct screen *s, const struct layout *l, const struct overlay_state *state, const char *trouble,
                 bool colour)
{
    struct screen_style dim = {.attributes = CELL_DIM}, wrong = {.attributes = CELL_BOLD};
    char lag[32] = "";
    if (l->state_row < 0) return;
    if (colour) wrong.fg = CELL_INDEXED(1);
    screen_blank(s, l->state_row, 0, l->cols);
    int col = paint_meter(s, l->state_row, l->margin, state->level, colour);
    col = screen_put(s, l->state_row, col, l->cols, " ", &dim);
    col = screen_put(s, l->state_row, col, l->cols, state->name, &dim);
    if (state->lag_seconds >= 0) snprintf(lag, sizeof lag, "  lag %.1f s", (double)state->lag_seconds);
    col = screen_put(s, l->state_row, col, l->cols, lag, &dim);
    if (!trouble[0]) return;
    col = screen_put(s, l->state_row, col, l->cols, "  ", &dim);
    screen_put(s, l->state_row, col, l->cols, trouble, &wrong);
}
