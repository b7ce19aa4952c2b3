/* The emulator: libvterm 0.1.4 and later. Debian 12 has 0.1.4; this file avoids its faults. */
#include "overlay/vt.h"

#include <assert.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vterm.h>

#include "overlay/filter.h"
#include "surtitle.h"
#include "util/failure.h"
#include "util/utf8.h"

enum { REPLY_BYTES = 4096, PAD_BYTES = 16384 };

/* For libvterm, a character is as wide as the sum of itself and its combining characters, and some combining characters
 * have a width (in 0.1.4 U+302A to U+302D, U+3099 and U+309A). With enough of them a character exceeds the row, and
 * libvterm writes through a null pointer. So each of them is replaced by a stand-in while it is in libvterm: one of the
 * last variation selectors, which have no width and are not used in text. */
enum { STAND_IN = 0xE01B0, STAND_INS = 64, CODES = 0x110000 };
static_assert(FILTER_MARKS < VTERM_MAX_CHARS_PER_CELL, "a cell holds all characters that the filter passes");

/* How libvterm treats a character: found by trial when the character first occurs, the same for every terminal. */
enum kind { UNKNOWN, ALONE, JOINS, JOINS_WIDE };
static uint8_t kinds[CODES];
static uint32_t wide[STAND_INS]; /* STAND_IN + i replaces wide[i] */
static int n_wide;

struct block {
    struct block *next, **from; /* *from is this one */
};

struct vt {
    VTerm *vterm;
    struct block *blocks; /* all that libvterm has allocated */
    jmp_buf no_memory;    /* a failed allocation jumps here, because libvterm does not check for NULL */
    bool broken;          /* an allocation has failed: libvterm must not be called again */
    VTermScreen *screen;
    VTerm *probe; /* a terminal to try characters on; NULL: not needed yet */
    enum kind probed;
    uint32_t last; /* the last base character that was fed */
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

/* After a resize, libvterm 0.1.4 may read and write the line information of a saved cursor, or of a cursor outside the
 * margins, whose row no longer exists: entries of four bytes, a few rows before or after their array. So every block
 * has zeroed padding on both sides: such an access stays inside the allocation, and reads zeros, which mean a plain
 * line. PAD_BYTES is 4096 rows. A libvterm without this fault does not need it. */
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

/* A program that asks without reading loses answers: the buffer is bounded. */
static void on_output(const char *bytes, size_t n, void *user)
{
    struct vt *vt = user;
    if (n > sizeof vt->reply - vt->n_reply) return;
    memcpy(vt->reply + vt->n_reply, bytes, n);
    vt->n_reply += n;
}

/* ---- creation ---- */

/* libvterm writes the second half of a wide character without checking for the end of the row. */
static int columns(int cols)
{
    return cols < 2 ? 2 : cols;
}

static int fail_memory(void)
{
    return failure(SUR_ERR_MEMORY, "not enough memory for a terminal");
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
    vt->cursor = (struct vt_cursor){.visible = true}; /* vterm_screen_reset set the shape, but the program has not */
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

/* ---- combining characters ---- */

/* Notes how "x" and the character after it were combined. */
static int on_probe(VTermGlyphInfo *glyph, VTermPos pos, void *user)
{
    struct vt *vt = user;
    bool joins = glyph->chars[0] == 'x' && glyph->chars[1];
    vt->probed = !joins ? ALONE : glyph->width == 1 ? JOINS : JOINS_WIDE;
    return 1;
}

static enum kind kind_of(struct vt *vt, uint32_t code)
{
    static const VTermStateCallbacks calls = {.putglyph = on_probe};
    char text[8] = "\rx";
    if (code < 0xa0) return ALONE;
    if (kinds[code] != UNKNOWN) return (enum kind)kinds[code];
    if (!vt->probe) {
        vt->probe = vterm_new_with_allocator(1, 8, &padded, vt);
        vterm_set_utf8(vt->probe, 1);
        vterm_state_set_callbacks(vterm_obtain_state(vt->probe), &calls, vt);
        vterm_state_reset(vterm_obtain_state(vt->probe), 1);
    }
    vterm_input_write(vt->probe, text, 2 + (size_t)sur_utf8_encode(code, text + 2));
    kinds[code] = (uint8_t)vt->probed;
    return vt->probed;
}

static bool is_stand_in(uint32_t code)
{
    return code >= STAND_IN && code < STAND_IN + STAND_INS;
}

static uint32_t stand_in_for(struct vt *vt, uint32_t code)
{
    int i = 0;
    while (i < n_wide && wide[i] != code) i++;
    if (i == STAND_INS || kind_of(vt, STAND_IN + (uint32_t)i) != JOINS) return 0;
    if (i == n_wide) wide[n_wide++] = code;
    return STAND_IN + (uint32_t)i;
}

bool vt_joins(struct vt *vt, uint32_t *code)
{
    if (vt->broken || setjmp(vt->no_memory)) {
        vt->broken = true;
        return false;
    }
    enum kind kind = kind_of(vt, *code);
    if (is_stand_in(*code))
        *code = 0; /* vt_draw would turn it into another character */
    else if (kind == JOINS_WIDE)
        *code = stand_in_for(vt, *code);
    return kind == JOINS || kind == JOINS_WIDE;
}

/* Decodes the character before text + n; returns its start. */
static size_t step_back(const char *text, size_t n, uint32_t *code)
{
    size_t at = n - 1;
    while (at > 0 && n - at < 4 && ((unsigned char)text[at] & 0xc0) == 0x80) at--;
    if (sur_utf8_decode((const uint8_t *)text + at, n - at, code) == (int)(n - at)) return at;
    *code = SUR_UTF8_REPLACEMENT;
    return n - 1;
}

/* Remembers the last base character that was fed. */
static void note_last(struct vt *vt, const char *bytes, size_t n)
{
    enum kind kind = JOINS;
    uint32_t code = vt->last;
    while (n > 0 && kind != ALONE) {
        n = step_back(bytes, n, &code);
        kind = kind_of(vt, code);
    }
    if (kind == ALONE) vt->last = code;
}

/* After a base character in the last column the cursor stays on it. If a combining character arrives in a later write,
 * libvterm puts it in the next row. So the base character is written again together with it. Returns the number of
 * bytes consumed. */
static size_t join_at_row_end(struct vt *vt, const char *bytes, size_t n)
{
    char text[16 + 4 * (VTERM_MAX_CHARS_PER_CELL + FILTER_MARKS + 1)];
    size_t marks = 0;
    uint32_t code;
    for (int took; marks < n && marks < 4 * FILTER_MARKS; marks += (size_t)took) {
        took = sur_utf8_decode((const uint8_t *)bytes + marks, n - marks, &code);
        if (took <= 0 || kind_of(vt, code) != JOINS) break;
    }
    if (marks == 0) return 0;
    VTermPos at, left;
    VTermScreenCell cell, before = {.chars = {0}};
    vterm_state_get_cursorpos(vterm_obtain_state(vt->vterm), &at);
    if (!vterm_screen_get_cell(vt->screen, at, &cell) || !vt->last || cell.chars[0] != vt->last) return 0;
    if (at.col + cell.width != columns(vt->cols) / (cell.attrs.dwl ? 2 : 1)) return 0;
    left = (VTermPos){.row = at.row, .col = at.col - cell.width};
    /* two equal characters: the cursor may have moved here after the first, and the cell may be old; drop the marks */
    if (left.col >= 0 && vterm_screen_get_cell(vt->screen, left, &before) && before.chars[0] == vt->last) return marks;
    size_t used = (size_t)snprintf(text, sizeof text, "\033[%dG", at.col + 1);
    for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL && cell.chars[i]; i++)
        used += (size_t)sur_utf8_encode(cell.chars[i], text + used);
    memcpy(text + used, bytes, marks);
    vterm_input_write(vt->vterm, text, used + marks);
    return marks;
}

int vt_feed(struct vt *vt, const char *bytes, size_t n)
{
    if (vt->broken || setjmp(vt->no_memory)) {
        vt->broken = true;
        return fail_memory();
    }
    size_t done = join_at_row_end(vt, bytes, n);
    if (n > done) vterm_input_write(vt->vterm, bytes + done, n - done);
    note_last(vt, bytes, n);
    return SUR_OK;
}

/* Moves the emulator's cursor to where vt_cursor reports it, inside the screen. */
static int move_cursor_inside(struct vt *vt)
{
    struct vt_cursor at = vt_cursor(vt);
    char move[32];
    return vt_feed(vt, move, (size_t)snprintf(move, sizeof move, "\033[%d;%dH", at.row + 1, at.col + 1));
}

int vt_resize(struct vt *vt, int rows, int cols)
{
    static const char no_margins[] =
        "\033[r\033[s"; /* libvterm would keep the margins, and scroll rows that no longer exist */
    if (rows == vt->rows && cols == vt->cols) return SUR_OK;
    struct vt_cursor before = vt->cursor;
    vt_feed(vt, no_margins, sizeof no_margins - 1);
    vt->cursor = before;
    move_cursor_inside(vt);
    vt->rows = rows;
    vt->cols = cols;
    if (vt->broken || setjmp(vt->no_memory)) {
        vt->broken = true;
        return fail_memory();
    }
    vterm_set_size(vt->vterm, rows, columns(cols));
    vt_draw_all(vt);
    return move_cursor_inside(vt);
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

bool vt_take_bell(struct vt *vt)
{
    bool bell = vt->bell;
    vt->bell = false;
    return bell;
}

struct vt_cursor vt_cursor(const struct vt *vt)
{
    struct vt_cursor c = vt->cursor; /* after a resize libvterm may restore a saved cursor outside the screen */
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
    if (a->font & FILTER_FAINT) bits |= CELL_DIM;
    if (a->font & FILTER_HIDDEN) bits |= CELL_HIDDEN;
    return (uint16_t)bits;
}

/* Returns whether the real terminal would interpret a character. All others, private ones too, may be shown. */
static bool is_control(uint32_t c)
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
    if (kinds[from->chars[0]] == JOINS) to->text[n++] = ' '; /* alone it would combine with the character to its left */
    for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL && from->chars[i] && n + 4 < sizeof to->text; i++) {
        uint32_t code = from->chars[i];
        if (is_stand_in(code)) code = wide[code - STAND_IN];
        n += (size_t)sur_utf8_encode(is_control(code) ? SUR_UTF8_REPLACEMENT : code, to->text + n);
    }
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
