/* Tokens to text and groups: the rules of assemble.h, characters across tokens, invalid bytes, pieces that are too
 * long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "text/assemble.h"

#define FFFD "\xef\xbf\xbd"
#define STEP 1280

/* A script of steps: "W" marker, "P" pad, "E" end of sequence, "O" another special, "=bytes" a piece. The log has
 * one line per step, "text", and "{t0,t1,pieces,text}" for a group that closed; times in steps. */
static void play(const char *const *script, char *log, size_t size)
{
    struct sur_assembler a;
    struct sur_group g;
    char text[SUR_STEP_TEXT_BYTES];
    size_t used = 0;
    log[0] = 0;
    sur_assembler_init(&a);
    for (int64_t step = 0;; step++) {
        const char *s = script[step];
        bool closed;
        if (!s) {
            closed = sur_assembler_finish(&a, text, &g);
        } else {
            enum sur_token_class class = *s == 'W'   ? SUR_TOKEN_WORD
                                         : *s == 'P' ? SUR_TOKEN_PAD
                                         : *s == 'E' ? SUR_TOKEN_EOS
                                         : *s == 'O' ? SUR_TOKEN_OTHER
                                                     : SUR_TOKEN_TEXT;
            const char *piece = *s == '=' ? s + 1 : "[NAME]";
            closed = sur_assembler_step(&a, step, class, (const uint8_t *)piece, strlen(piece), text, &g);
        }
        used += (size_t)snprintf(log + used, size - used, "%s", text);
        if (closed) {
            assert_int_equal(strlen(g.text), g.n_bytes);
            assert_int_equal(g.t0 % STEP, 0);
            assert_int_equal(g.t1 % STEP, 0);
            used += (size_t)snprintf(log + used, size - used, "{%d,%d,%d,%s}", (int)(g.t0 / STEP), (int)(g.t1 / STEP),
                                     g.n_pieces, g.text);
        }
        used += (size_t)snprintf(log + used, size - used, "%s", s ? "|" : "");
        assert_true(used < size);
        if (!s) break;
    }
}

static void check(const char *want, const char *const *script)
{
    char log[8192];
    play(script, log, sizeof log);
    assert_string_equal(log, want);
}

#define CHECK(want, ...) check(want, (const char *const[]){__VA_ARGS__, NULL})

static void test_times(void **state)
{
    /* The marker at step 9 gives t1 = 10; two pieces: t0 = 10 - 4. */
    CHECK("|||||||||| He|llo|{6,10,2, Hello}|", "P", "P", "P", "P", "P", "P", "P", "P", "P", "W", "= He", "=llo", "P");
    /* One piece: three steps. */
    CHECK("|||||| I|{3,6,1, I}|", "P", "P", "P", "P", "P", "W", "= I", "P");
    /* Never before the start, nor before the previous group's t1. */
    CHECK("| a|{0,1,1, a}| b|{1,3,1, b}|", "W", "= a", "W", "= b", "P");
    CHECK("| a| b|{0,1,2, a b}| c| d|{1,4,2, c d}|", "W", "= a", "= b", "W", "= c", "= d", "E");
}

static void test_closing(void **state)
{
    CHECK("||| a|{0,1,1, a}|||", "W", "P", "P", "= a", "P", "P", "P");   /* pads before the piece do not close */
    CHECK("| a|{0,1,1, a}||", "W", "= a", "W", "P");                     /* a marker */
    CHECK("| a|{0,1,1, a}|", "W", "= a", "E");                           /* EOS */
    CHECK("| a|{0,1,1, a}", "W", "= a");                                 /* the end */
    CHECK("| a|| b|{0,1,2, a b}|", "W", "= a", "O", "= b", "P");         /* other specials do nothing */
    CHECK("| a|{0,1,1, a}| b|{1,4,1, b}|", "W", "= a", "E", "= b", "P"); /* EOS closes the group only */
}

static void test_markers_in_a_row(void **state)
{
    CHECK("|||| a|{1,4,1, a}|", "W", "W", "W", "W", "= a", "P");
    CHECK("|||", "W", "W", "E");
    CHECK("||", "W", "P");
    CHECK("", NULL);
}

static void test_no_marker(void **state)
{
    CHECK("|| a| b|{0,3,2, a b}|", "P", "P", "= a", "= b", "P");
    CHECK("| a|{0,1,1, a}| b|{1,4,1, b}|", "W", "= a", "P", "= b", "P");
}

static void test_split_characters(void **state)
{
    CHECK("|||\xe2\x82\xac|{0,1,3,\xe2\x82\xac}|", "W", "=\xe2", "=\x82", "=\xac", "P");
    CHECK("||\xf0\x9f\x98\x80!|{0,1,2,\xf0\x9f\x98\x80!}|", "W", "=\xf0\x9f", "=\x98\x80!", "P");
    /* Across pads and a marker no byte is lost; the character belongs to the later group. */
    CHECK("| a||{0,1,2, a}||\xe2\x82\xac|{3,6,1,\xe2\x82\xac}|", "W", "= a", "=\xe2\x82", "P", "P", "=\xac", "P");
    CHECK("| a|{0,1,1, a}|\xc3\xa9|{1,3,1,\xc3\xa9}|", "W", "= a\xc3", "W", "=\xa9", "P");
}

static void test_broken(void **state)
{
    CHECK("|" FFFD "|{0,1,1," FFFD "}|", "W", "=\xff", "P");
    CHECK("||" FFFD "x|{0,1,2," FFFD "x}|", "W", "=\xe2\x82", "=x", "P");
    CHECK("||" FFFD FFFD "|{0,1,2," FFFD FFFD "}|", "W", "=\xf0\x9f", "=\xff", "P");
    /* An incomplete character at EOS and at the end, with and without an open group. */
    CHECK("| a|" FFFD "{0,1,1, a" FFFD "}|", "W", "= a\xe2", "E");
    CHECK("| a"
          "|" FFFD "{0,1,1, a" FFFD "}| b|{1,4,1, b}|",
          "W", "= a\xe2", "E", "= b", "P");
    CHECK("||" FFFD "{0,1,1," FFFD "}", "W", "=\xe2");
    CHECK("| a|{0,1,1, a}|" FFFD "{1,2,0," FFFD "}", "W", "= a\xe2", "P");
    CHECK("| a|{0,1,1, a}||" FFFD "{2,5,0," FFFD "}|", "W", "= a\xe2", "P", "P", "E");
}

static void test_unprintable(void **state)
{
    CHECK("|a" FFFD "[2J" FFFD FFFD "|{0,1,1,a" FFFD "[2J" FFFD FFFD "}|", "W", "=a\x1b[2J\n\xc2\x9b", "P");
    CHECK("|" FFFD FFFD "|{0,1,1," FFFD FFFD "}|", "W", "=\xe2\x80\xae\xe2\x80\xa8", "P");
}

static void test_zero_byte(void **state)
{
    struct sur_assembler a;
    struct sur_group g;
    char text[SUR_STEP_TEXT_BYTES];
    sur_assembler_init(&a);
    assert_false(sur_assembler_step(&a, 0, SUR_TOKEN_TEXT, (const uint8_t *)"\0", 1, text, &g));
    assert_string_equal(text, FFFD);
    assert_true(sur_assembler_finish(&a, text, &g));
    assert_string_equal(text, "");
    assert_string_equal(g.text, FFFD);
}

static void test_overlong_group(void **state)
{
    struct sur_assembler a;
    struct sur_group g;
    char text[SUR_STEP_TEXT_BYTES], all[8192] = "", heard[8192] = "";
    int64_t last_t1 = 0;
    int groups = 0;
    sur_assembler_init(&a);
    sur_assembler_step(&a, 0, SUR_TOKEN_WORD, NULL, 0, text, &g);
    for (int64_t step = 1; step <= 600; step++) { /* 600 pieces of 7 bytes: two characters of three bytes each */
        if (sur_assembler_step(&a, step, SUR_TOKEN_TEXT, (const uint8_t *)" \xe2\x82\xac\xe6\x97\xa5", 7, text, &g)) {
            assert_true(g.n_bytes <= SUR_GROUP_BYTES && g.n_bytes > SUR_GROUP_BYTES - 7);
            assert_int_equal(g.n_bytes % 7, 0);
            assert_true(g.t0 >= last_t1 && g.t1 >= g.t0);
            last_t1 = g.t1;
            strcat(heard, g.text);
            groups++;
        }
        strcat(all, text);
    }
    assert_true(sur_assembler_finish(&a, text, &g));
    assert_true(g.t0 >= last_t1 && g.t1 >= g.t0);
    strcat(heard, g.text);
    assert_int_equal(strlen(all), 4200);
    assert_string_equal(all, heard);
    assert_int_equal(groups, 4); /* 137 pieces of 7 bytes fit 960 */
}

static void test_overlong_piece(void **state)
{
    static const char euro[] = "\xe2\x82\xac";
    char piece[3 * 1000];
    for (int i = 0; i < 1000; i++) memcpy(piece + 3 * i, euro, 3);
    struct sur_assembler a;
    struct sur_group g;
    char text[SUR_STEP_TEXT_BYTES];
    sur_assembler_init(&a);
    assert_false(sur_assembler_step(&a, 0, SUR_TOKEN_TEXT, (const uint8_t *)piece, sizeof piece, text, &g));
    assert_int_equal(strlen(text), SUR_GROUP_BYTES);
    memset(piece, 0xff, sizeof piece); /* every byte becomes three */
    assert_true(sur_assembler_step(&a, 1, SUR_TOKEN_TEXT, (const uint8_t *)piece, sizeof piece, text, &g));
    assert_int_equal(g.n_bytes, SUR_GROUP_BYTES);
    assert_int_equal(strlen(text), SUR_GROUP_BYTES);
    memset(piece, 'a', sizeof piece);
    assert_true(sur_assembler_step(&a, 2, SUR_TOKEN_TEXT, (const uint8_t *)piece, sizeof piece, text, &g));
    assert_int_equal(strlen(text), SUR_GROUP_BYTES);
    /* A full group and an incomplete character at EOS: U+FFFD is in the step's text, but not in the group. */
    assert_false(sur_assembler_step(&a, 3, SUR_TOKEN_TEXT, (const uint8_t *)"\xe2", 1, text, &g));
    assert_true(sur_assembler_step(&a, 4, SUR_TOKEN_EOS, NULL, 0, text, &g));
    assert_string_equal(text, FFFD);
    assert_int_equal(g.n_bytes, SUR_GROUP_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_closing),
        cmocka_unit_test(test_markers_in_a_row),
        cmocka_unit_test(test_no_marker),
        cmocka_unit_test(test_split_characters),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_unprintable),
        cmocka_unit_test(test_zero_byte),
        cmocka_unit_test(test_overlong_group),
        cmocka_unit_test(test_overlong_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
