/* libvterm 0.1.4 and later: what is old in it stays in this file. */
#include "overlay/vt.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vterm.h>

#include "surtitle.h"
#include "util/error.h"
#include "util/utf8.h"

enum { REPLY_BYTES = 4096, PAD_BYTES = 16384 };

struct block {
    struct block *next, **from; /* *from is this one */
};

struct vt {
    VTerm *vterm;
    struct block *blocks; /* all that libvterm has */
    jmp_buf no_memory;    /* where an allocation that fails returns to: libvterm does not look */
    bool broken;          /* it did, so libvterm must not be called again */
    VTermScreen *screen;
    int rows, cols;
    int from, to; /* rows that changed: [from, to) */
    struct vt_cursor cursor;
    bool bell;
    char reply[REPLY_BYTES];
    size_t n_reply;
};

bool vt_exists(void)
{
    return true;
}

/* After a resize 0.1.4 may look up the line of a saved cursor, or of one outside of its margins, that is no longer
 * there: a few entries of four bytes before or behind their array. They find zeros here, which are plain lines. */
static void *padded_malloc(size_t size, void *user)
{
    struct vt *vt = user;
    struct block *block = size < SIZE_MAX - 2 * PAD_BYTES ? calloc(1, size + 2 * PAD_BYTES) : NULL;
    if (!block) longjmp(vt->no_memory, 1);
    *block = (struct block){.next = vt->blocks, .from = &vt->blocks};
    if (block->next) block->next->from = &block->next;
    vt->blocks = block;
    return (char *)block + PAD_BYTES;
}

static void padded_free(void *at, void *user)
{
    if (!at) return;
    struct block *block = (void *)((char *)at - PAD_BYTES);
    *block->from = block->next;
    if (block->next) block->next->from = block->from;
    free(block);
}

static VTermAllocatorFunctions padded = {.malloc = padded_malloc, .free = padded_free};

/* ---- what libvterm calls ---- */

static int on_damage(VTermRect rect, void *user)
{
    struct vt *vt = user;
    if (rect.start_row < vt->from) vt->from = rect.start_row;
    if (rect.end_row > vt->to) vt->to = rect.end_row;
    return 1;
}

static int on_cursor(VTermPos pos, VTermPos old, int visible, void *user)
{
    struct vt *vt = user;
    vt->cursor.row = pos.row;
    vt->cursor.col = pos.col;
    return 1;
}

static int on_property(VTermProp property, VTermValue *value, void *user)
{
    struct vt *vt = user;
    switch (property) {
    case VTERM_PROP_CURSORVISIBLE:
        vt->cursor.visible = value->boolean;
        return 1;
    case VTERM_PROP_CURSORBLINK:
        vt->cursor.blinks = value->boolean;
        return 1;
    case VTERM_PROP_CURSORSHAPE:
        vt->cursor.shape = value->number == VTERM_PROP_CURSORSHAPE_UNDERLINE  ? VT_UNDERLINE
                           : value->number == VTERM_PROP_CURSORSHAPE_BAR_LEFT ? VT_BAR
                                                                              : VT_BLOCK;
        return 1;
    default:
        return 1;
    }
}

static int on_bell(void *user)
{
    struct vt *vt = user;
    vt->bell = true;
    return 1;
}

/* A program that asks and never reads loses answers rather than memory. */
static void on_output(const char *bytes, size_t n, void *user)
{
    struct vt *vt = user;
    if (n > sizeof vt->reply - vt->n_reply) return;
    memcpy(vt->reply + vt->n_reply, bytes, n);
    vt->n_reply += n;
}

/* ---- ours ---- */

/* libvterm writes a wide character's second half without a look at where the row ends. */
static int columns(int cols)
{
    return cols < 2 ? 2 : cols;
}

static int fail_memory(void)
{
    return sur_fail(SUR_ERR_MEMORY, "not enough memory for a terminal");
}

int vt_create(struct vt **out, int rows, int cols)
{
    static const VTermScreenCallbacks calls = {
        .damage = on_damage, .movecursor = on_cursor, .settermprop = on_property, .bell = on_bell};
    struct vt *vt = *out = calloc(1, sizeof *vt);
    if (!vt || setjmp(vt->no_memory)) {
        vt_destroy(out);
        return fail_memory();
    }
    vt->vterm = vterm_new_with_allocator(rows, columns(cols), &padded, vt);
    vt->rows = rows;
    vt->cols = cols;
    vterm_set_utf8(vt->vterm, 1);
    vterm_output_set_callback(vt->vterm, on_output, vt);
    vt->screen = vterm_obtain_screen(vt->vterm);
    vterm_screen_set_callbacks(vt->screen, &calls, vt);
    vterm_screen_enable_altscreen(vt->screen, 1);
    vterm_screen_reset(vt->screen, 1);
    vt->cursor = (struct vt_cursor){.visible = true}; /* what reset says of its shape the program has not said */
    vt_draw_all(vt);
    return SUR_OK;
}

void vt_destroy(struct vt **vt)
{
    for (struct block *b = *vt ? (*vt)->blocks : NULL, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(*vt);
    *vt = NULL;
}

int vt_feed(struct vt *vt, const char *bytes, size_t n)
{
    if (vt->broken || setjmp(vt->no_memory)) {
        vt->broken = true;
        return fail_memory();
    }
    vterm_input_write(vt->vterm, bytes, n);
    return SUR_OK;
}

/* To where the cursor is, or was before it left the screen. */
static int place_cursor(struct vt *vt)
{
    struct vt_cursor at = vt_cursor(vt);
    char move[32];
    return vt_feed(vt, move, (size_t)snprintf(move, sizeof move, "\033[%d;%dH", at.row + 1, at.col + 1));
}

int vt_resize(struct vt *vt, int rows, int cols)
{
    static const char no_margins[] = "\033[r\033[s"; /* libvterm would keep them, and scroll rows that are gone */
    if (rows == vt->rows && cols == vt->cols) return SUR_OK;
    struct vt_cursor before = vt->cursor;
    vt_feed(vt, no_margins, sizeof no_margins - 1);
    vt->cursor = before;
    place_cursor(vt);
    vt->rows = rows;
    vt->cols = cols;
    if (vt->broken || setjmp(vt->no_memory)) {
        vt->broken = true;
        return fail_memory();
    }
    vterm_set_size(vt->vterm, rows, columns(cols));
    vt_draw_all(vt);
    return place_cursor(vt);
}

size_t vt_reply(struct vt *vt, char *out, size_t size)
{
    size_t n = vt->n_reply < size ? vt->n_reply : size;
    memcpy(out, vt->reply, n);
    vt->n_reply -= n;
    memmove(vt->reply, vt->reply + n, vt->n_reply);
    return n;
}

void vt_draw_all(struct vt *vt)
{
    vt->from = 0;
    vt->to = vt->rows;
}

bool vt_bell(struct vt *vt)
{
    bool bell = vt->bell;
    vt->bell = false;
    return bell;
}

struct vt_cursor vt_cursor(const struct vt *vt)
{
    struct vt_cursor c = vt->cursor; /* libvterm lets it leave the screen: a saved one, after a resize */
    c.row = c.row < 0 ? 0 : c.row >= vt->rows ? vt->rows - 1 : c.row;
    c.col = c.col < 0 ? 0 : c.col >= vt->cols ? vt->cols - 1 : c.col;
    return c;
}

static uint32_t colour_of(const VTermColor *c)
{
    if (VTERM_COLOR_IS_DEFAULT_FG(c) || VTERM_COLOR_IS_DEFAULT_BG(c)) return 0;
    if (VTERM_COLOR_IS_INDEXED(c)) return CELL_INDEXED(c->indexed.idx);
    return CELL_RGB(c->rgb.red, c->rgb.green, c->rgb.blue);
}

static uint16_t attributes_of(const VTermScreenCellAttrs *a)
{
    static const uint16_t underline[] = {0, CELL_UNDERLINE, CELL_DOUBLE_UNDERLINE, CELL_CURLY_UNDERLINE};
    unsigned bits = underline[a->underline];
    if (a->bold) bits |= CELL_BOLD;
    if (a->italic) bits |= CELL_ITALIC;
    if (a->blink) bits |= CELL_BLINK;
    if (a->reverse) bits |= CELL_REVERSE;
    if (a->strike) bits |= CELL_STRIKE;
    return (uint16_t)bits;
}

/* The program may show what it likes, private characters too, but nothing that the real terminal would obey. */
static bool obeyed(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

static void copy_cell(const VTermScreenCell *from, struct cell *to)
{
    *to = (struct cell){.width = from->width == 2 ? 2 : 1, .attributes = attributes_of(&from->attrs)};
    to->fg = colour_of(&from->fg);
    to->bg = colour_of(&from->bg);
    if (from->chars[0] == (uint32_t)-1) to->width = 0;
    if (from->chars[0] == (uint32_t)-1 || from->chars[0] == 0) return;
    size_t n = 0;
    for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL && from->chars[i] && n + 4 < sizeof to->text; i++)
        n += (size_t)sur_utf8_encode(obeyed(from->chars[i]) ? SUR_UTF8_REPLACEMENT : from->chars[i], to->text + n);
    to->text[n] = 0;
    if (strcmp(to->text, " ") == 0) to->text[0] = 0;
}

void vt_draw(struct vt *vt, struct screen *screen)
{
    if (vt->broken) return;
    int to = vt->to < screen->rows ? vt->to : screen->rows, cols = vt->cols < screen->cols ? vt->cols : screen->cols;
    for (int row = vt->from; row < to; row++) {
        for (int col = 0; col < cols; col++) {
            VTermScreenCell cell;
            VTermPos at = {.row = row, .col = col};
            if (vterm_screen_get_cell(vt->screen, at, &cell)) copy_cell(&cell, screen_at(screen, row, col));
        }
    }
    vt->from = vt->rows;
    vt->to = 0;
}
