/* Caption rows, the layout, and the status line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "overlay/paint.h"
#include "sink/captions.h"

#define SECOND 1000000000LL

static struct captions c;
static int64_t step, now;

static void begin(int width, int rows)
{
    captions_init(&c, width, rows);
    step = now = 0;
}

static bool say(const char *text, bool special)
{
    struct sur_event e = {.type = SUR_EVENT_TOKEN, .step = step++, .text = text, .special = special};
    now += SECOND * 80 / 1000;
    return captions_event(&c, &e, now);
}

static void pads(int n)
{
    for (int i = 0; i < n; i++) say("", true);
}

static void check(const char *a, const char *b, const char *third)
{
    assert_string_equal(c.row[0], a);
    assert_string_equal(c.row[1], b);
    assert_string_equal(c.row[2], third);
}

static void test_words(void **state)
{
    begin(12, 3);
    assert_false(say(" hel", false)); /* not complete yet */
    assert_false(say("lo", false));
    check("", "", "");
    assert_true(say(" wor", false));
    check("", "", "hello");
    assert_true(say("", true)); /* a pad ends a word */
    check("", "", "hello wor");
    say(" again", false);
    say("", true);
    check("", "hello wor", "again");
    say(" and", false);
    say(" much longer", false);
    say("", true);
    check("hello wor", "again and", "much longer");
    say(" x", false);
    say("", true);
    check("again and", "much longer", "x");
}

/* After every event each row has kept its words, with or without new ones, or all rows have moved up. */
static void test_words_never_jump(void **state)
{
    static const char *const pieces[] = {" a",       " word", "ier", " \u6f22\u5b57", ".", " averyveryverylongword",
                                         " e\u0301", ""};
    srand(5);
    begin(16, 3);
    for (int i = 0; i < 5000; i++) {
        struct captions was = c;
        int which = rand() % 8;
        say(pieces[which], which == 7);
        if (!c.any) continue;
        int up = 0;
        for (; up <= 3; up++) {
            bool fits = true;
            for (int r = 0; r + up < 3; r++) {
                const char *old = was.row[r + up];
                fits = fits && strncmp(c.row[r], old, strlen(old)) == 0 &&
                       (r + up == 2 || strlen(old) == strlen(c.row[r]));
            }
            if (fits) break;
        }
        assert_true(up < 3);
        for (int r = 0; r < 3; r++) assert_true(lines_fit(c.row[r], 16, &(size_t){0}) == strlen(c.row[r]));
    }
}

static void test_pause_and_silence(void **state)
{
    begin(40, 3);
    say(" One.", false);
    pads(LINES_SENTENCE_STEPS + 1);
    say(" Two", false);
    say("", true);
    check("", "One.", "Two");
    pads(30);
    assert_true(c.any);
    pads(30);
    assert_false(c.any);
    check("", "", "");
    say(" Three", false);
    say("", true);
    check("", "", "Three");
}

static void test_clock(void **state)
{
    begin(40, 3);
    assert_true(captions_due_ns(&c) == INT64_MAX);
    say(" One", false);
    say("", true);
    int64_t due = captions_due_ns(&c);
    assert_true(due >= now + 3 * SECOND && due <= now + 4 * SECOND);
    assert_false(captions_tick(&c, due - 1));
    assert_true(c.any);
    assert_true(captions_tick(&c, due));
    check("", "", "");
    assert_false(captions_tick(&c, due + SECOND));
}

static void test_skip_and_end(void **state)
{
    begin(40, 3);
    say(" cut", false);
    struct sur_event skip = {.type = SUR_EVENT_SKIP, .t1 = 16000 * 3};
    assert_true(captions_event(&c, &skip, now));
    check("", "cut", "[skipped 3.0 s]");
    say(" more", false);
    assert_true(captions_event(&c, &(struct sur_event){.type = SUR_EVENT_END, .text = ""}, now));
    check("cut", "[skipped 3.0 s]", "more");
    assert_true(captions_due_ns(&c) < INT64_MAX); /* and it is cleared later */
}

static void test_resize(void **state)
{
    begin(40, 3);
    say(" one two three", false);
    pads(LINES_PAUSE_STEPS + 1);
    say(" four five", false);
    say("", true);
    check("", "one two three", "four five");
    captions_resize(&c, 8, 3);
    check("three", "four", "five");
    captions_resize(&c, 80, 2);
    assert_string_equal(c.row[0], "four");
    assert_string_equal(c.row[1], "five");
    say(" six", false);
    say("", true);
    assert_string_equal(c.row[1], "five six");
    captions_resize(&c, 1, 1);
    captions_resize(&c, 0, 0);
    assert_int_equal(strlen(c.row[0]), 1);
}

static void test_long_text(void **state)
{
    char piece[200];
    memset(piece, 'x', sizeof piece - 1);
    piece[sizeof piece - 1] = 0;
    begin(1000, 3);
    for (int i = 0; i < 100; i++) say(piece, false);
    say("", true);
    for (int r = 0; r < 3; r++) assert_in_range(strlen(c.row[r]), r < 2 ? 900 : 1, 1000);
    char blanks[300];
    memset(blanks, ' ', sizeof blanks - 1);
    blanks[sizeof blanks - 1] = 0;
    for (int i = 0; i < 100; i++) say(blanks, false);
    say("end", false);
    say("", true);
    assert_non_null(strstr(c.row[2], "end"));
}

static void test_layout(void **state)
{
    struct layout l;
    for (int rows = 1; rows < 60; rows++) {
        for (int cols = 1; cols < 200; cols += 7) {
            for (int program = 0; program < 2; program++) {
                layout_make(&l, rows, cols, program, rows % 3 ? 0 : 40);
                assert_in_range(l.caption_rows, rows < 3 ? 0 : 1, 3);
                assert_int_equal(l.top + l.screen_rows, rows);
                assert_int_equal(l.caption_row + l.caption_rows, l.screen_rows);
                assert_true(!program || (l.program_rows >= 1 && l.program_rows < rows + 1));
                assert_true(l.margin >= 0 && l.width >= 1 && l.margin + l.width <= cols);
                assert_true(l.status_row < l.caption_row);
            }
        }
    }
}

static void test_status_row(void **state)
{
    struct layout l;
    struct screen s = {0};
    struct overlay_state st = {.name = "mic \u6f22", .level = 0, .lag_seconds = 0.26f};
    char row[400] = "";
    layout_make(&l, 24, 60, false, 0);
    assert_int_equal(screen_resize(&s, l.screen_rows, l.cols), 0);
    for (int i = 0; i < 3; i++) {
        static const float levels[] = {0, 0.1f, 2};
        st.level = levels[i];
        paint_status_line(&s, &l, &st, "no sound", i == 0);
        row[0] = 0;
        for (int col = 0; col < 60; col++) {
            const struct cell *cell = screen_at(&s, l.status_row, col);
            strcat(row, cell->width && !cell->text[0] ? " " : cell->text);
        }
        static const char *const meters[] = {"[        ]", "[|||||   ]", "[||||||||]"};
        assert_int_equal(strncmp(row, meters[i], 10), 0);
        static const char rest[] = " mic \u6f22  lag 0.3 s  no sound ";
        assert_int_equal(strncmp(row + 10, rest, sizeof rest - 1), 0);
    }
    layout_make(&l, 24, 3, false, 0); /* text without room is cut */
    assert_int_equal(screen_resize(&s, l.screen_rows, l.cols), 0);
    paint_status_line(&s, &l, &st, "no sound", true);
    paint_captions(&s, &l, &c);
    screen_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_words),
                                       cmocka_unit_test(test_words_never_jump),
                                       cmocka_unit_test(test_pause_and_silence),
                                       cmocka_unit_test(test_clock),
                                       cmocka_unit_test(test_skip_and_end),
                                       cmocka_unit_test(test_resize),
                                       cmocka_unit_test(test_long_text),
                                       cmocka_unit_test(test_layout),
                                       cmocka_unit_test(test_status_row)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
