/* The filter between a program and the emulator: modes, titles and the bytes that pass, in pieces of any size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "overlay/filter.h"

static char seen[4096]; /* calls, in order */

static void on_mode(void *user, enum input_mode mode, int value)
{
    static const char *const names[MODES] = {"1", "66", "1000", "1002", "1003", "1004", "1006", "2004", "keys"};
    snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "%s=%d ", names[mode], value);
}

static void on_title(void *user, const char *title)
{
    snprintf(seen + strlen(seen), sizeof seen - strlen(seen), "title(%s) ", title);
}

/* Stands for an emulator in which U+0310 to U+0313 combine; U+0311 is passed as U+0312, and U+0313 is not passed. */
static bool on_join(void *user, uint32_t *code)
{
    bool joins = *code >= 0x310 && *code <= 0x313;
    if (*code == 0x311) *code = 0x312;
    if (*code == 0x313) *code = 0;
    return joins;
}

/* Feeds text in pieces of `size` bytes; returns the bytes that passed. */
static const char *pass(const char *text, size_t n, size_t size)
{
    static char out[FILTER_ROOM(65536)];
    struct filter_calls calls = {.mode = on_mode, .title = on_title, .joins = on_join};
    struct filter f;
    size_t used = 0;
    filter_init(&f, &calls);
    seen[0] = 0;
    for (size_t i = 0; i < n; i += size) {
        size_t take = n - i < size ? n - i : size;
        char piece[FILTER_ROOM(4096)];
        assert_true(take <= 4096);
        size_t got = filter_feed(&f, text + i, take, piece);
        assert_true(got <= FILTER_ROOM(take) && used + got < sizeof out);
        memcpy(out + used, piece, got);
        used += got;
    }
    out[used] = 0;
    return out;
}

static void check(const char *text, const char *passed, const char *calls)
{
    for (size_t size = 1; size <= strlen(text) + 1; size++) {
        assert_string_equal(pass(text, strlen(text), size), passed);
        assert_string_equal(seen, calls);
    }
}

static void test_modes(void **state)
{
    check("\033[?1h", "\033[?1h", "1=1 ");
    check("\033[?1l", "\033[?1l", "1=0 ");
    check("a\033[?1000;1006hb", "a\033[?1000;1006hb", "1000=1 1006=1 ");
    check("\033[?1002h\033[?1000h\033[?1003h\033[?1003l", "\033[?1002h\033[?1000h\033[?1003h\033[?1003l",
          "1002=1 1000=1 1003=1 1003=0 "); /* in order: the last one is in effect */
    check("\033[?1004h\033[?2004h\033[?66h", "\033[?1004h\033[?2004h\033[?66h", "1004=1 2004=1 66=1 ");
    check("\033=\033>", "\033=\033>", "66=1 66=0 ");
    check("\033[>4;2m\033[>4m", "\033[>4;2m\033[>4m", "keys=2 keys=0 ");
    check("\033[>4n\033[>m", "\033[>4n\033[>m", "keys=0 keys=0 ");
    check("\033[!p", "\033[!p", "1=0 66=0 ");
    check("\033c", "\033c", "1=0 66=0 1000=0 1002=0 1003=0 1004=0 1006=0 2004=0 keys=0 ");
}

static void test_what_is_no_mode(void **state)
{
    check("\033[1h\033[4l\033[>1h\033[?1$p\033[?1049h\033[?25l", "\033[1h\033[4l\033[>1h\033[?1$p\033[?1049h\033[?25l",
          "");
    check("\033[4m\033[1;4;5m\033[>5;2m\033[38;2;1;2;3m", "\033[4m\033[1;4;5m\033[>5;2m\033[38;2;1;2;3m", "");
    check("\033(B\033)0\033#8\0337\0338", "\033(B\033)0\033#8\0337\033[?1048l", "");
    check("\033[?1\033[?1006h", "\033[?1\033[?1006h", "1006=1 "); /* another sequence begins */
    check("\033[?1\030h", "\033[?1\030h", "");                    /* cancelled */
    check("\033[>?1h\033[?1?h\033[?1$2h\033[?\xc2\xb3h", "\033[>?1h\033[?1\030h\033[?1$\030h\033[?\030\x80h", "");
}

/* Input that libvterm 0.1.4 does not survive; each case was found by tests/fuzz/fuzz_vt.c. */
static void test_what_would_break_the_emulator(void **state)
{
    check("\033[?99999999999999999999;1h", "\033[?99999;1h", "1=1 ");
    check("\033[?2;2;2;2;2;2;2;2;2;2;2;2;2;2;2;2;2:2;1h", "\033[?2;2;2;2;2;2;2;2;2;2;2;2;2;2;2;2h", "");
    check("\033[b\u0301\033[9b", "\033[\030\u0301\033[9\030", ""); /* REP of nothing, of no width */
    check("=\033[1m\033[9b", "=\033[1m\033[9b", "");
    check("a\xc2\x9b"
          "b\xc2\n\x9b\xe6\xbc\033[m",
          "a\x80"
          "b\x80\n\x80\x80\033[m",
          "");
    check("\xe6\xbc\xa2\xc0\xaf\xf8\x88\xed\xa0\x80", "\xe6\xbc\xa2\x80\x80\x80\x80\x80\x80\x80", "");
    check("\033(]0;a\a\033\xce]0;b\a\033\n]0;c\a", "\033(\0300;a\a\n", "title(b) title(c) ");
    check("\033P$qo\033\\\033P$q\033\\\033P$q q\033\\", "\033P$q q\033\\", "");
}

static void test_combining_characters(void **state)
{
    check("e\u0310\u0311\u0313\u0310", "e\u0310\u0312\u0310", "");
    check("\u0310e\u0310\u0310\u0310\u0310\u0310\u0310\u0310x\u0310", "\u0310e\u0310\u0310\u0310\u0310\u0310x\u0310",
          "");
    check("e\u0310\033[m\u0310\033[H\u0310\n\u0310\u0313\u0310\033[31m\u0310\u0310",
          "e\u0310\033[m\u0310\033[H\u0310\n\u0310\u0310\033[31m", ""); /* the base character is the same */
    check("e\u0310\033[9b", "e\u0310\033[9\030", "");
}

static void test_faint_and_hidden(void **state)
{
    check("\033[2mf\033[8mb\033[22mh\033[28mn\033[1mb",
          "\033[2m\033[11mf\033[8m\033[13mb\033[22m\033[12mh\033[28m\033[10mn\033[1mb", "");
    check("\033[1;2;8;0m\033[8;mx", "\033[1;2;8;0m\033[8;mx", "");
    check("\033[38;5;2;48;2;8;8;8m\033[38:5:8;4:2m\033[58;5;2m", "\033[38;5;2;48;2;8;8;8m\033[38:5:8;4:2m\033[58;5;2m",
          "");
    check("\033[38;5;2;2m\033[38:2::1:2:3;8m", "\033[38;5;2;2m\033[11m\033[38:2::1:2:3;8m\033[13m", "");
    check("\033[11m\033[8m\0337\033[m\0338\033[1m",
          "\033[11m\033[10m\033[8m\033[12m\0337\033[m\033[10m\033[?1048l\033[1m\033[12m", "");
    check("\033[8m\033[?1049h\033[m\033[?1049l\033[4m\033c\033[4m",
          "\033[8m\033[12m\033[?1049h\033[m\033[10m\033[?1049l\033[4m\033[12m\033c\033[4m",
          "1=0 66=0 1000=0 1002=0 1003=0 1004=0 1006=0 2004=0 keys=0 ");
    check("\033[2m\033[!p\033[4m\033[>8m\033[8 m", "\033[2m\033[11m\033[!p\033[4m\033[>8m\033[8 m", "1=0 66=0 ");
}

static void test_strings(void **state)
{
    check("a\033]0;hello\ab", "ab", "title(hello) ");
    check("\033]2;hello\033\\b", "b", "title(hello) ");
    check("\033]2;h\xc3\xa4llo;2\a", "", "title(h\xc3\xa4llo;2) ");
    check("\033]52;c;aGVsbG8=\a\033]8;;http://x\033\\y\033]10;?\a", "y", ""); /* programs cannot write the clipboard */
    check("\033]22;x\a\033]\a\033]0\a", "", "");
    check("\033_Gkitty\033\\\033^pm\033\\\033Xsos\033\\z", "z", "");
    check("\033P+q544e\033\\z", "z", "");
    check("\033P$qm\033\\z", "\033P$qm\033\\z", "");
    check("\033]0;cut\033[?1hz", "\033[?1hz", "1=1 "); /* ended by another sequence */
    check("\033]0;cut\030z", "z", "");
    check("\033Pa\ab\033\\z", "z", "");
}

static void test_long_strings(void **state)
{
    char text[3000];
    memset(text, 'x', sizeof text);
    memcpy(text, "\033]0;", 4);
    memcpy(text + 2000, "\aafter", 6);
    assert_string_equal(pass(text, 2006, 700), "after");
    assert_string_equal(seen, ""); /* no part of a title */
}

static void test_noise(void **state)
{
    static const char bits[] = "\033[]P?>;14hlmn\a\\$q=c0 \xe6\xbc\xa2";
    static char noise[4000];
    srand(3);
    for (int round = 0; round < 300; round++) {
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = rand() % 3 ? bits[(size_t)rand() % (sizeof bits - 1)] : (char)rand();
        for (size_t i = 0; i < sizeof noise; i++) noise[i] = noise[i] ? noise[i] : 'x';
        char *whole = strdup(pass(noise, sizeof noise, 4000));
        char calls[sizeof seen];
        strcpy(calls, seen);
        assert_string_equal(pass(noise, sizeof noise, 1 + (size_t)rand() % 50), whole);
        assert_string_equal(seen, calls);
        free(whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_modes),
                                       cmocka_unit_test(test_what_is_no_mode),
                                       cmocka_unit_test(test_what_would_break_the_emulator),
                                       cmocka_unit_test(test_combining_characters),
                                       cmocka_unit_test(test_faint_and_hidden),
                                       cmocka_unit_test(test_strings),
                                       cmocka_unit_test(test_long_strings),
                                       cmocka_unit_test(test_noise)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
