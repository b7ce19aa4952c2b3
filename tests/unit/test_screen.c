/* Cells: the bytes drawn for a change turn one screen into the other. They are interpreted by a terminal of thirty
 * lines, which knows no more than what screen.c may send. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "overlay/paint.h"
#include "overlay/screen.h"
#include "surtitle.h"
#include "util/utf8.h"

enum { ROWS = 4, COLS = 12, TOP = 5 };

static const struct screen_style plain;

struct played {
    char text[ROWS][COLS][CELL_BYTES]; /* "": the right half of a wide character */
    char pen[ROWS][COLS][64];
};

static void wipe(struct played *p)
{
    memset(p, 0, sizeof *p);
    for (int i = 0; i < ROWS * COLS; i++) strcpy(p->text[i / COLS][i % COLS], " ");
}

/* What a terminal does to the other half when one half of a wide character is overwritten. */
static void put_char(struct played *p, int row, int *col, const char *one, int width, const char *pen)
{
    assert_in_range(row, 0, ROWS - 1);
    assert_in_range(*col, 0, COLS - width);
    for (int i = *col; i < *col + width; i++) {
        if (!p->text[row][i][0] && i > 0) strcpy(p->text[row][i - 1], " ");
        if (i + 1 < COLS && !p->text[row][i + 1][0]) strcpy(p->text[row][i + 1], " ");
    }
    strcpy(p->text[row][*col], one);
    strcpy(p->pen[row][*col], pen);
    if (width == 2) p->text[row][*col + 1][0] = 0;
    *col += width;
}

static void play(struct played *p, const struct output *out)
{
    int row = -1, col = -1;
    char pen[64] = "";
    for (size_t i = 0; i < out->n;) {
        char one[5] = "", *end;
        if (out->data[i] == '\033') {
            assert_int_equal(out->data[i + 1], '[');
            char *at = out->data + i + 2;
            size_t n = strspn(at, "0123456789;:");
            if (at[n] == 'H') {
                row = (int)strtol(at, &end, 10) - 1 - TOP;
                col = (int)strtol(end + 1, &end, 10) - 1;
            } else {
                assert_int_equal(at[n], 'm');
                snprintf(pen, sizeof pen, "%.*s", (int)n, at);
                if (strcmp(pen, "0") == 0) pen[0] = 0;
            }
            i += n + 3;
            continue;
        }
        uint32_t c;
        int n = sur_utf8_decode((const uint8_t *)out->data + i, out->n - i, &c);
        assert_true(n > 0);
        memcpy(one, out->data + i, (size_t)n);
        int width = sur_utf8_width(one);
        if (width == 0)
            strcat(p->text[row][col - 1][0] ? p->text[row][col - 1] : p->text[row][col - 2], one);
        else
            put_char(p, row, &col, one, width, pen);
        i += (size_t)n;
    }
}

static void assert_shows(const struct played *p, struct screen *s)
{
    for (int row = 0; row < ROWS; row++) {
        for (int col = 0; col < COLS; col++) {
            const struct cell *cell = screen_at(s, row, col);
            if (cell->width == 0) {
                assert_string_equal(p->text[row][col], "");
                continue;
            }
            assert_string_equal(p->text[row][col], cell->text[0] ? cell->text : " ");
            assert_true((p->pen[row][col][0] != 0) == (cell->attributes || cell->fg || cell->bg));
        }
    }
}

static void test_put(void **state)
{
    struct screen s = {0};
    assert_int_equal(screen_resize(&s, ROWS, COLS), SUR_OK);
    assert_int_equal(screen_put(&s, 0, 0, 100, "ab", &plain), 2);
    assert_int_equal(screen_put(&s, 1, 3, 100, "\u6f22\u5b57x", &plain), 8);
    assert_string_equal(screen_at(&s, 1, 3)->text, "\u6f22");
    assert_int_equal(screen_at(&s, 1, 3)->width, 2);
    assert_int_equal(screen_at(&s, 1, 4)->width, 0);
    assert_int_equal(screen_put(&s, 2, 0, 100, "e\u0301e", &plain), 2);
    assert_string_equal(screen_at(&s, 2, 0)->text, "e\u0301");
    assert_int_equal(screen_put(&s, 3, 0, 4, "abcdefg", &plain), 4);
    assert_int_equal(screen_put(&s, 3, 0, 4, "abc\u6f22", &plain), 3); /* no half of a wide character */
    assert_int_equal(screen_put(&s, 3, 0, 4, "\u0301a", &plain), 1);   /* a combining character without a base */
    for (int i = 0; i < 40; i++)
        screen_put(&s, 3, 0, 4,
                   "a\u0301\u0301\u0301\u0301\u0301\u0301\u0301\u0301\u0301\u0301"
                   "\u0301\u0301\u0301\u0301\u0301\u0301\u0301",
                   &plain);
    assert_true(strlen(screen_at(&s, 3, 0)->text) < CELL_BYTES);
    screen_finish(&s);
    screen_finish(&s);
}

static void test_nothing_changed(void **state)
{
    struct screen s = {0};
    struct output out = {.fd = -1};
    screen_resize(&s, ROWS, COLS);
    assert_false(screen_draw(&s, TOP, &out));
    screen_put(&s, 0, 0, COLS, "some", &plain);
    assert_true(screen_draw(&s, TOP, &out));
    assert_int_equal(out.n, strlen("\033[6;1Hsome"));
    assert_memory_equal(out.data, "\033[6;1Hsome", out.n);
    out.n = 0;
    assert_false(screen_draw(&s, TOP, &out));
    assert_int_equal(out.n, 0);
    screen_put(&s, 0, 0, COLS, "sole", &plain); /* one cell */
    assert_true(screen_draw(&s, TOP, &out));
    assert_int_equal(out.n, strlen("\033[6;3Hl"));
    screen_forget(&s);
    out.n = 0;
    assert_true(screen_draw(&s, TOP, &out));
    assert_int_equal(out.n, strlen("\033[6;1Hsole"));
    free(out.data);
    screen_finish(&s);
}

static void test_pens(void **state)
{
    static const struct {
        struct screen_style style;
        const char *bytes;
    } cases[] = {
        {{.attributes = CELL_BOLD | CELL_DIM | CELL_ITALIC | CELL_UNDERLINE}, "\033[0;1;2;3;4mx\033[0m"},
        {{.attributes = CELL_BLINK | CELL_REVERSE | CELL_STRIKE}, "\033[0;5;7;9mx\033[0m"},
        {{.attributes = CELL_DOUBLE_UNDERLINE}, "\033[0;21mx\033[0m"},
        {{.fg = CELL_INDEXED(0), .bg = CELL_INDEXED(7)}, "\033[0;30;47mx\033[0m"},
        {{.fg = CELL_INDEXED(8), .bg = CELL_INDEXED(15)}, "\033[0;90;107mx\033[0m"},
        {{.fg = CELL_INDEXED(16), .bg = CELL_INDEXED(255)}, "\033[0;38;5;16;48;5;255mx\033[0m"},
        {{.fg = CELL_RGB(1, 2, 255), .bg = CELL_RGB(0, 0, 0)}, "\033[0;38;2;1;2;255;48;2;0;0;0mx\033[0m"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct screen s = {0};
        struct output out = {.fd = -1};
        screen_resize(&s, 1, 4);
        screen_put(&s, 0, 0, 4, "x", &cases[i].style);
        screen_draw(&s, 0, &out);
        output_append(&out, "", 1);
        assert_string_equal(out.data + strlen("\033[1;1H"), cases[i].bytes);
        free(out.data);
        screen_finish(&s);
    }
}

/* Random screens in turn: wide characters over narrow ones, halves, attributes, blanks. */
static void test_random(void **state)
{
    static const char *const words[] = {"a",       "bc",       "\u6f22",     "\u6f22\u5b57",
                                        "e\u0301", "x\u6f22y", "\U0001f600", "~~~~~"};
    struct screen s = {0};
    struct output out = {.fd = -1};
    struct played shown;
    srand(7);
    screen_resize(&s, ROWS, COLS);
    wipe(&shown);
    for (int i = 0; i < 3000; i++) {
        for (int n = rand() % 6; n >= 0; n--) {
            int row = rand() % ROWS, col = rand() % COLS;
            struct screen_style style = {.attributes = rand() % 3 ? 0 : CELL_BOLD,
                                         .fg = rand() % 3 ? 0 : CELL_INDEXED(2)};
            screen_blank(&s, row, 0, rand() % 4 ? 0 : COLS);
            /* as in the emulator and paint.c, no half of a character is alone */
            while (col > 0 && screen_at(&s, row, col)->width == 0) col--;
            int end = screen_put(&s, row, col, COLS, words[rand() % 8], &style);
            while (end < COLS && screen_at(&s, row, end)->width == 0) screen_blank(&s, row, end, end + 1), end++;
        }
        out.n = 0;
        screen_draw(&s, TOP, &out);
        play(&shown, &out);
        assert_shows(&shown, &s);
    }
    free(out.data);
    screen_finish(&s);
}

/* A half without its other half is drawn as a blank, and never exceeds the row. */
static void test_halves(void **state)
{
    struct screen s = {0};
    struct output out = {.fd = -1};
    struct played shown;
    screen_resize(&s, ROWS, COLS);
    wipe(&shown);
    for (int row = 0; row < ROWS; row++)
        screen_put(&s, row, row % 2, COLS, "\u6f22\u6f22\u6f22\u6f22\u6f22\u6f22", &plain);
    for (int col = 0; col < COLS; col += 3) screen_blank(&s, 0, col, col + 1);
    *screen_at(&s, 1, COLS - 1) = *screen_at(&s, 1, 1);
    screen_draw(&s, TOP, &out);
    play(&shown, &out);
    free(out.data);
    screen_finish(&s);
}

static const char *state_line(int cols, const char *name, const char *trouble)
{
    static char line[4 * 256];
    struct screen s = {0};
    struct layout l;
    struct overlay_state state = {.level = 0.01f, .lag_seconds = 0.04f};
    size_t n = 0;
    layout_make(&l, 24, cols, false, 0);
    screen_resize(&s, l.screen_rows, cols);
    snprintf(state.name, sizeof state.name, "%s", name);
    paint_status_line(&s, &l, &state, trouble, false);
    for (int col = l.margin; col < cols; col++) {
        const struct cell *c = screen_at(&s, l.status_row, col);
        n += (size_t)sprintf(line + n, "%s", c->width == 0 ? "" : c->text[0] ? c->text : " ");
    }
    while (n > 0 && line[n - 1] == ' ') n--;
    line[n] = 0;
    assert_true(sur_utf8_width(line) <= cols);
    screen_finish(&s);
    return line;
}

/* The problem line is shortened to any width without losing its meaning. */
static void test_state_line(void **state)
{
    const char *gone = "the microphone default is gone: captions go on when it is back";
    const char *zeros = "the microphone default gives nothing but zeros: is it muted, or does nothing play there?";
    assert_string_equal(state_line(80, "talk.wav", ""), "[||      ] talk.wav  lag 0.0 s");
    assert_string_equal(state_line(80, "talk.wav", "captions are 1.0 s behind"),
                        "[||      ] talk.wav  lag 0.0 s  captions are 1.0 s behind");
    assert_string_equal(
        state_line(110, "default", gone),
        "[||      ] default  lag 0.0 s  the microphone default is gone: captions go on when it is back");
    assert_string_equal(state_line(80, "default", gone),
                        "[||      ]  the microphone default is gone: captions go on when it is back");
    assert_string_equal(state_line(80, "default", zeros), "[||      ]  the microphone default gives nothing but zeros");
    assert_string_equal(state_line(44, "default", gone), "[||      ]  the microphone default is gone");
    assert_string_equal(state_line(30, "default", gone), "[||      ]  the micr...is gone");
    assert_string_equal(state_line(32, "\u6f22", "\u6f22\u5b57\u6f22\u5b57\u6f22\u5b57\u6f22\u5b57\u6f22\u5b57x"),
                        "[||      ]  \u6f22\u5b57\u6f22\u5b57\u6f22...\u5b57\u6f22\u5b57x");
    for (int cols = 1; cols < 200; cols++) state_line(cols, "e\u0301\u3099\u6f22", zeros);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_put),    cmocka_unit_test(test_nothing_changed),
                                       cmocka_unit_test(test_pens),   cmocka_unit_test(test_random),
                                       cmocka_unit_test(test_halves), cmocka_unit_test(test_state_line)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
