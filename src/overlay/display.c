#include "overlay/display.h"

#include <stdlib.h>
#include <string.h>

#include "overlay/os_term.h"
#include "surtitle.h"
#include "util/failure.h"

enum { DEFAULT_ROWS = 24, DEFAULT_COLS = 80 };
#define FRAME_NS (1000000000LL / 30)
#define RETRY_NS 20000000LL /* how long to wait before the terminal is offered the rest of a frame */
#define POLL_NS                                                                                                        \
    200000000LL /* a shell moves a process to the foreground without a signal, so the overlay polls for it */

static void measure(struct display *d)
{
    int rows = DEFAULT_ROWS, cols = DEFAULT_COLS;
    os_term_size(d->terminal, &rows, &cols);
    layout_make(&d->layout, rows, cols, d->program != NULL, d->width);
}

void display_init(struct display *d, int terminal, int width, bool colour, struct program *program)
{
    memset(d, 0, sizeof *d);
    d->terminal = terminal;
    d->width = width;
    d->colour = colour;
    d->program = program;
    measure(d);
}

void display_finish(struct display *d)
{
    screen_finish(&d->screen);
    free(d->frame.data);
}

int display_resize(struct display *d)
{
    measure(d);
    int status = screen_resize(&d->screen, d->layout.screen_rows, d->layout.cols);
    if (status != SUR_OK) return status;
    if (d->rows == ROWS_READY) d->rows = ROWS_MOVED;
    return d->program ? program_resize(d->program, d->layout.program_rows, d->layout.cols) : SUR_OK;
}

void display_take(struct display *d)
{
    d->enter = os_term_enter();
    d->taken = true;
    d->rows = ROWS_NEW;
    d->cursor.shape = 0;
    if (d->program) modes_resend(&d->program->modes);
}

void display_release(struct display *d)
{
    os_term_restore();
    d->taken = false;
    d->frame.n = d->n_written = 0;
}

void display_paint(struct display *d, const struct captions *captions, const struct overlay_state *state,
                   const char *problem)
{
    paint_captions(&d->screen, &d->layout, captions);
    paint_status_line(&d->screen, &d->layout, state, problem, d->colour);
}

/* ---- a frame ---- */

/* Clears the rows that the screen is drawn in. */
static void append_clear(struct display *d)
{
    const struct layout *l = &d->layout;
    bool new = d->rows == ROWS_NEW; /* the terminal still shows other programs' text in these rows */
    if (d->rows == ROWS_READY) return;
    d->rows = ROWS_READY;
    if (d->program) {
        output_printf(&d->frame, "\033[2J");
        return;
    }
    /* The cursor stands in the first of our rows (append_cursor), even if a resize has moved that row. */
    output_printf(&d->frame, new ? "\r" : "\r\033[J");
    for (int i = new ? 0 : 1; i < l->screen_rows; i++) output_append(&d->frame, "\n", 1);
    if (new && l->screen_rows) output_printf(&d->frame, "\033[%dA\0337", l->screen_rows);
    os_term_note_top(l->top, new);
}

static void append_cursor(struct display *d)
{
    static const char *const shapes[] = {[VT_BLOCK] = "12", [VT_UNDERLINE] = "34", [VT_BAR] = "56"};
    if (!d->program) { /* where append_clear needs it */
        output_printf(&d->frame, "\033[%d;1H", d->layout.top + 1);
        return;
    }
    struct vt_cursor c = vt_cursor(d->program->vt);
    if (c.shape && (c.shape != d->cursor.shape || c.blinks != d->cursor.blinks)) {
        os_term_note_cursor_shape();
        output_printf(&d->frame, "\033[%c q", shapes[c.shape][c.blinks ? 0 : 1]);
    }
    output_printf(&d->frame, "\033[%d;%dH", c.row + 1, c.col + 1);
    if (c.visible) output_printf(&d->frame, "\033[?25h");
    d->cursor = c;
}

static bool cursor_changed(const struct display *d)
{
    if (!d->program) return false;
    struct vt_cursor c = vt_cursor(d->program->vt);
    const struct vt_cursor *was = &d->cursor;
    return c.row != was->row || c.col != was->col || c.visible != was->visible || c.shape != was->shape ||
           c.blinks != was->blinks;
}

static bool is_writing(const struct display *d)
{
    return d->n_written < d->frame.n;
}

int display_write(struct display *d)
{
    if (!is_writing(d)) return SUR_OK;
    ptrdiff_t n = os_term_write(d->frame.data + d->n_written, d->frame.n - d->n_written);
    if (n < 0) return failure(SUR_ERR_IO, "the terminal has gone");
    d->n_written += (size_t)n;
    return SUR_OK;
}

/* The frame is one synchronised update (mode 2026), and one write if the terminal takes it all, so that no half of a
 * frame is ever seen. */
int display_draw(struct display *d, int64_t now_ns)
{
    static const char begin[] = "\033[?2026h\033[?25l";
    struct output *out = &d->frame;
    d->last_frame_ns = now_ns;
    out->n = d->n_written = 0;
    if (d->enter) output_append(out, d->enter, strlen(d->enter));
    output_append(out, begin, sizeof begin - 1);
    append_clear(d);
    if (d->program) {
        vt_draw(d->program->vt, &d->screen);
        modes_append(&d->program->modes, out);
        if (vt_take_bell(d->program->vt)) output_append(out, "\a", 1);
    }
    bool any = out->n > sizeof begin - 1;
    any = screen_draw(&d->screen, d->layout.top, out) || any || cursor_changed(d);
    d->enter = NULL;
    append_cursor(d);
    output_printf(out, "\033[?2026l");
    if (out->no_memory) return failure(SUR_ERR_MEMORY, "not enough memory for a frame");
    if (!any) out->n = 0;
    return display_write(d);
}

bool display_may_draw(const struct display *d, int64_t now_ns)
{
    bool due = d->enter || now_ns - d->last_frame_ns >= FRAME_NS;
    return due && d->taken && !is_writing(d);
}

int64_t display_due_ns(const struct display *d, bool changed, int64_t now_ns)
{
    if (!d->taken) return now_ns + POLL_NS;
    if (is_writing(d)) return now_ns + RETRY_NS;
    return changed ? d->last_frame_ns + FRAME_NS : INT64_MAX;
}
