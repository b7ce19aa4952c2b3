/* The emulated terminal: cells for what a program writes, answers, and random bytes at every size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "overlay/filter.h"
#include "overlay/vt.h"
#include "surtitle.h"

static void feed(struct vt *vt, const char *text)
{
    vt_feed(vt, text, strlen(text));
}

static void test_cells(void **state)
{
    struct vt *vt;
    struct screen s = {0};
    assert_int_equal(vt_create(&vt, 5, 20), SUR_OK);
    assert_int_equal(screen_resize(&s, 8, 20), SUR_OK);
    feed(vt, "\033[1;38;5;200ma\033[0;48;2;1;2;3mb\033[0;31;107mc\033[m \u6f22e\u0301\033[5;20H\033[3mz");
    vt_draw(vt, &s);
    const struct cell *row = screen_at(&s, 0, 0);
    assert_string_equal(row[0].text, "a");
    assert_int_equal(row[0].fg, CELL_INDEXED(200));
    assert_int_equal(row[0].attributes, CELL_BOLD);
    assert_int_equal(row[1].bg, CELL_RGB(1, 2, 3));
    assert_int_equal(row[1].fg, 0);
    assert_int_equal(row[2].fg, CELL_INDEXED(1));
    assert_int_equal(row[2].bg, CELL_INDEXED(15));
    assert_string_equal(row[3].text, "");
    assert_string_equal(row[4].text, "\u6f22");
    assert_int_equal(row[4].width, 2);
    assert_int_equal(row[5].width, 0);
    assert_string_equal(row[6].text, "e\u0301");
    assert_string_equal(screen_at(&s, 4, 19)->text, "z");
    assert_int_equal(screen_at(&s, 4, 19)->attributes, CELL_ITALIC);
    screen_put(&s, 0, 0, 20, "ours", &(struct screen_style){0});
    vt_draw(vt, &s); /* nothing changed, so nothing is copied */
    assert_string_equal(screen_at(&s, 0, 0)->text, "o");
    vt_draw_all(vt);
    vt_draw(vt, &s);
    assert_string_equal(screen_at(&s, 0, 0)->text, "a");
    vt_destroy(&vt);
    vt_destroy(&vt);
    screen_finish(&s);
}

static void test_cursor_and_screens(void **state)
{
    struct vt *vt;
    struct screen s = {0};
    assert_int_equal(vt_create(&vt, 5, 20), SUR_OK);
    screen_resize(&s, 5, 20);
    assert_true(vt_cursor(vt).visible);
    assert_int_equal(vt_cursor(vt).shape, 0); /* the program has not set one */
    feed(vt, "shell\033[2;3H\033[?25l\033[5 q");
    struct vt_cursor c = vt_cursor(vt);
    assert_true(c.row == 1 && c.col == 2 && !c.visible && c.shape == VT_BAR && c.blinks);
    feed(vt, "\033[?25h\033[4 q");
    c = vt_cursor(vt);
    assert_true(c.visible && c.shape == VT_UNDERLINE && !c.blinks);
    feed(vt, "\033[?1049h\033[2J\033[Hother\a");
    vt_draw(vt, &s);
    assert_string_equal(screen_at(&s, 0, 0)->text, "o");
    feed(vt, "\033[?1049l");
    vt_draw(vt, &s);
    assert_string_equal(screen_at(&s, 0, 0)->text, "s");
    assert_true(vt_take_bell(vt));
    assert_false(vt_take_bell(vt));
    vt_destroy(&vt);
    screen_finish(&s);
}

static void test_answers(void **state)
{
    struct vt *vt;
    char reply[64] = "";
    vt_create(&vt, 5, 20);
    feed(vt, "\033[3;4H\033[6n");
    size_t n = vt_reply(vt, reply, sizeof reply - 1);
    assert_int_equal(n, 6);
    assert_string_equal(reply, "\033[3;4R");
    assert_int_equal(vt_reply(vt, reply, sizeof reply), 0);
    feed(vt, "\033[c");
    n = vt_reply(vt, reply, 1);
    assert_int_equal(n, 1);
    assert_true(vt_reply(vt, reply, sizeof reply) > 3);
    for (int i = 0; i < 100000; i++) feed(vt, "\033[6n"); /* the answers are not read */
    assert_true(vt_reply(vt, reply, sizeof reply) > 0);
    vt_destroy(&vt);
}

static void on_mode(void *user, enum input_mode mode, int value) {}

static void on_title(void *user, const char *title) {}

static bool on_join(void *user, uint32_t *code)
{
    return vt_joins(user, code);
}

/* Feeds text through the filter, as the overlay does, in pieces of `size` bytes. */
static void type(struct vt *vt, struct filter *f, const char *text, size_t size)
{
    char out[FILTER_ROOM(4096)];
    for (size_t n = strlen(text); n > 0;) {
        size_t take = size < n ? size : n;
        assert_true(take <= 4096);
        assert_int_equal(vt_feed(vt, out, filter_feed(f, text, take, out)), SUR_OK);
        text += take;
        n -= take;
    }
}

static void start(struct vt **vt, struct screen *s, struct filter *f, int rows, int cols)
{
    assert_int_equal(vt_create(vt, rows, cols), SUR_OK);
    assert_int_equal(screen_resize(s, rows, cols), SUR_OK);
    filter_init(f, &(struct filter_calls){.mode = on_mode, .title = on_title, .joins = on_join, .user = *vt});
}

/* Combining characters, to some of which libvterm gives a width: each alone, and all in turn. */
static const char *const marks[] = {"\u302a", "\u302b", "\u302c",     "\u302d",     "\u302e",
                                    "\u3099", "\u309a", "\u0301",     "\u200d",     "\ufe0f",
                                    "\u20e3", "\u1160", "\U000e0100", "\U000e01b0", "\U000e01ef"};

static void put_marks(struct vt *vt, struct filter *f, size_t which, int n, size_t size)
{
    char run[4096] = "";
    size_t used = 0, n_marks = sizeof marks / sizeof *marks;
    for (int i = 0; i < n; i++) {
        const char *mark = marks[(which < n_marks ? which : (size_t)i) % n_marks];
        memcpy(run + used, mark, strlen(mark) + 1);
        used += strlen(mark);
    }
    type(vt, f, run, size);
}

static void test_runs_of_combining_characters(void **state)
{
    static const char *const begins[] = {
        "a",           "\u304b", "\033#6a", "\033#3\u304b", "\033[999Ga", "\033[999G\u6f22", "\n\033[4ha",
        "\033[3;999H", "",       "\n"};
    for (int cols = 1; cols <= 200; cols++) {
        struct vt *vt;
        struct screen s = {0};
        struct filter f;
        start(&vt, &s, &f, 3, cols);
        for (size_t i = 0; i < sizeof begins / sizeof *begins; i++) {
            for (size_t which = 0; which <= sizeof marks / sizeof *marks; which++) {
                bool pieces = (which + (size_t)cols) % 3 == 0;
                type(vt, &f, begins[i], 4096);
                put_marks(vt, &f, which, cols + 5, pieces ? 1 + which : 4096);
                struct vt_cursor c = vt_cursor(vt);
                assert_true(c.row >= 0 && c.row < 3 && c.col >= 0 && c.col < cols);
            }
            vt_draw(vt, &s);
            for (int at = 0; at < 3 * cols; at++) assert_non_null(memchr(s.want[at].text, 0, CELL_BYTES));
            type(vt, &f, i % 2 ? "\033c" : "\r\n", 4096);
        }
        for (int smaller = cols; smaller > 0; smaller /= 2) {
            assert_int_equal(vt_resize(vt, 2, smaller), SUR_OK);
            put_marks(vt, &f, 5, 10, 4096);
            vt_draw(vt, &s);
        }
        vt_destroy(&vt);
        screen_finish(&s);
    }
}

/* A voiced syllable of two characters is as wide as one, at any column and in pieces of any size.
 */
static void test_decomposed_japanese(void **state)
{
    static const char *const syllables[] = {"\u304b\u3099", "\u306f\u309a", "e\u0301\u3099", "\u6f22\u302a"};
    for (int cols = 2; cols <= 40; cols++) {
        for (size_t size = 1; size <= 8; size++) {
            struct vt *vt;
            struct screen s = {0};
            struct filter f;
            start(&vt, &s, &f, 6, cols);
            for (int i = 0; i < 2 * cols; i++) type(vt, &f, syllables[i % 4], size);
            vt_draw(vt, &s);
            for (int i = 0, row = 0, col = 0; i < 2 * cols; i++) {
                int width = i % 4 == 2 ? 1 : 2;
                if (col + width > cols) row++, col = 0;
                if (row == 6) break;
                assert_string_equal(screen_at(&s, row, col)->text, syllables[i % 4]);
                assert_int_equal(screen_at(&s, row, col)->width, width);
                col += width;
            }
            vt_destroy(&vt);
            screen_finish(&s);
        }
    }
}

/* libvterm supports neither; hidden text must not be shown. */
static void test_faint_and_hidden(void **state)
{
    struct vt *vt;
    struct screen s = {0};
    struct filter f;
    start(&vt, &s, &f, 2, 20);
    type(vt, &f, "\033[2ma\033[1;8mb\033[22mc\033[38;5;2;28;3md\033[me\033[8;7m\u6f22\033[0;2;15m\0337\033[mf\0338g",
         1);
    vt_draw(vt, &s);
    static const uint16_t want[] = {CELL_DIM, CELL_DIM | CELL_BOLD | CELL_HIDDEN, CELL_HIDDEN, CELL_ITALIC,
                                    0,        CELL_HIDDEN | CELL_REVERSE};
    for (int i = 0; i < 6; i++) assert_int_equal(screen_at(&s, 0, i)->attributes, want[i]);
    assert_string_equal(screen_at(&s, 0, 7)->text, "g");
    assert_int_equal(screen_at(&s, 0, 7)->attributes, CELL_DIM);
    vt_destroy(&vt);
    screen_finish(&s);
}

/* Of many combining characters on one base a cell keeps as many as it holds. Without a base they are put on a blank. */
static void test_combining_characters_in_a_cell(void **state)
{
    struct vt *vt;
    struct screen s = {0};
    struct filter f;
    start(&vt, &s, &f, 3, 20);
    type(vt, &f, "e", 4096);
    for (int i = 0; i < 100000; i++) type(vt, &f, "\u0301\033[m", 4096);
    type(vt, &f, "x\r\n\u3099\033[4Ga\U000e01b0b", 4096);
    vt_draw(vt, &s);
    assert_string_equal(screen_at(&s, 0, 0)->text, "e\u0301\u0301\u0301\u0301\u0301");
    assert_string_equal(screen_at(&s, 0, 1)->text, "x");
    assert_string_equal(screen_at(&s, 1, 0)->text, " \u3099");
    assert_string_equal(screen_at(&s, 1, 3)->text, "a");
    assert_string_equal(screen_at(&s, 1, 4)->text, "b");
    /* the old text of the last column is not taken for the new text before it */
    type(vt, &f, "\033[3;1Habcdefghijklmnopqrsee\033[3;19He", 4096);
    type(vt, &f, "\u0301", 4096);
    type(vt, &f, "z", 4096);
    vt_draw(vt, &s);
    assert_string_equal(screen_at(&s, 2, 19)->text, "z");
    vt_destroy(&vt);
    screen_finish(&s);
}

/* The output of a program is untrusted. */
static void test_noise(void **state)
{
    static const char *const bits[] = {"\033[",      "\033]",
                                       "\033P",      "\033",
                                       "?",          ";",
                                       "9999999999", "H",
                                       "J",          "K",
                                       "L",          "M",
                                       "P",          "@",
                                       "X",          "S",
                                       "T",          "r",
                                       "h",          "l",
                                       "m",          "1049",
                                       "\u6f22",     "e\u0301\u0301\u0301\u0301\u0301\u0301",
                                       "text",       "\n",
                                       "\r",         "\t",
                                       "\b",         "\033#6",
                                       "\033#3",     "\033M",
                                       "\0338",      "\0337",
                                       "\033c",      "\033[?69h",
                                       "\033[2;5s",  "\033[?6h",
                                       "b",          "$q",
                                       "\x9b",       "\xff",
                                       "\033[!p",    "\033[20h",
                                       "\u3099",     "\u302a\u302b\u302c\u302d\u3099\u309a\u0301\u302a"};
    struct filter f;
    struct vt *vt;
    struct screen s = {0};
    char out[FILTER_ROOM(64)];
    srand(11);
    start(&vt, &s, &f, 24, 80);
    for (int i = 0; i < 60000; i++) {
        const char *bit = bits[(size_t)rand() % (sizeof bits / sizeof *bits)];
        char byte = (char)rand();
        bool raw = rand() % 8 == 0;
        vt_feed(vt, out, raw ? filter_feed(&f, &byte, 1, out) : filter_feed(&f, bit, strlen(bit), out));
        if (rand() % 300 == 0) {
            int rows = 1 + rand() % 60, cols = 1 + rand() % 130;
            vt_resize(vt, rows, cols);
            screen_resize(&s, rows, cols);
        }
        if (rand() % 20 == 0) vt_draw(vt, &s);
        struct vt_cursor c = vt_cursor(vt);
        assert_in_range(c.row, 0, s.rows - 1);
        assert_in_range(c.col, 0, s.cols - 1);
        if (rand() % 100 == 0) vt_reply(vt, out, 64);
    }
    for (int i = 0; i < s.rows * s.cols; i++)
        for (const char *at = s.want[i].text; *at; at++) assert_true((unsigned char)*at >= 0x20 && *at != 0x7f);
    vt_destroy(&vt);
    screen_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cells),
                                       cmocka_unit_test(test_cursor_and_screens),
                                       cmocka_unit_test(test_answers),
                                       cmocka_unit_test(test_noise),
                                       cmocka_unit_test(test_runs_of_combining_characters),
                                       cmocka_unit_test(test_decomposed_japanese),
                                       cmocka_unit_test(test_faint_and_hidden),
                                       cmocka_unit_test(test_combining_characters_in_a_cell)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
