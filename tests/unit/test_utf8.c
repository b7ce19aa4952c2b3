/* UTF-8: decoding, invalid bytes and their length, printable code points, widths. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "util/utf8.h"

static int decode(const char *bytes, size_t n, uint32_t *c)
{
    return sur_utf8_decode((const uint8_t *)bytes, n, c);
}

static void test_every_code_point_survives(void **state)
{
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        if (c >= 0xd800 && c <= 0xdfff) continue;
        char bytes[4];
        uint32_t back;
        int n = sur_utf8_encode(c, bytes);
        assert_int_equal(n, c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4);
        assert_int_equal(decode(bytes, (size_t)n, &back), n);
        assert_int_equal(back, c);
        for (int k = 0; k < n; k++) assert_int_equal(decode(bytes, (size_t)k, &back), 0);
    }
}

/* Unicode 15, table 3-8 and the paragraphs around it: the maximal subpart is replaced. */
static void test_broken(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        int want;
    } cases[] = {
        {"\x80", 1, -1},     /* a continuation alone */
        {"\xc0\xaf", 2, -1}, /* overlong */
        {"\xc1\xbf", 2, -1},
        {"\xe0\x80\xaf", 3, -1},
        {"\xe0\x9f\xbf", 3, -1},
        {"\xf0\x80\x80\xaf", 4, -1},
        {"\xf0\x8f\xbf\xbf", 4, -1},
        {"\xed\xa0\x80", 3, -1},     /* a surrogate */
        {"\xf4\x90\x80\x80", 4, -1}, /* U+110000 */
        {"\xf5\x80\x80\x80", 4, -1},
        {"\xff", 1, -1},
        {"\xc3 ", 2, -1},
        {"\xe2\x82 ", 3, -2},
        {"\xe2 ", 2, -1},
        {"\xf0\x9f\x98 ", 4, -3},
        {"\xf0\x9f ", 3, -2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t c = 0;
        assert_int_equal(decode(cases[i].bytes, cases[i].n, &c), cases[i].want);
        assert_int_equal(c, 0xfffd);
    }
    char out[4];
    assert_int_equal(sur_utf8_encode(0xd800, out), 3);
    assert_memory_equal(out, "\xef\xbf\xbd", 3);
    assert_int_equal(sur_utf8_encode(0x110000, out), 3);
    assert_memory_equal(out, "\xef\xbf\xbd", 3);
}

static void test_printable(void **state)
{
    static const uint32_t no[] = {
        0,      9,      10,     13,     27,     31,     127,    0x80,    0x85,     0x9b,     0x9f,      0x61c,  0x200e,
        0x200f, 0x202a, 0x202b, 0x202c, 0x202d, 0x202e, 0x2028, 0x2029,  0x2066,   0x2067,   0x2068,    0x2069, 0x378,
        0xd800, 0xdfff, 0xe000, 0xf8ff, 0xfdd0, 0xfffe, 0xffff, 0xf0000, 0x10ffff, 0x110000, 0xffffffff};
    static const uint32_t yes[] = {' ',    '~',    0xa0,   0xad,   0xe9,   0x301,   0x200b, 0x200c,
                                   0x200d, 0x2026, 0x20ac, 0x3042, 0xac00, 0x1f600, 0xfffd, 0xfeff};
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) assert_false(sur_utf8_printable(no[i]));
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) assert_true(sur_utf8_printable(yes[i]));
}

static void check_clean(const char *text, size_t n, size_t size, const char *want)
{
    char out[64];
    memset(out, 'x', sizeof out);
    sur_utf8_clean(out, size, text, n);
    assert_string_equal(out, want);
    assert_int_equal(out[size], 'x');
}

static void test_clean(void **state)
{
    check_clean("plain", 5, 63, "plain");
    check_clean("caf\xc3\xa9", 5, 63, "caf\xc3\xa9");
    check_clean("a\x1b[31mb", 7, 63, "a\xef\xbf\xbd[31mb");
    check_clean("a\0b", 3, 63,
                "a\xef\xbf\xbd"
                "b");
    check_clean("a\nb\r", 4, 63,
                "a\xef\xbf\xbd"
                "b\xef\xbf\xbd");
    check_clean("\xc2\x9b"
                "2J",
                4, 63,
                "\xef\xbf\xbd"
                "2J");
    check_clean("\xe2\x80\xae"
                "evil",
                7, 63,
                "\xef\xbf\xbd"
                "evil");
    check_clean("\xe2\x82"
                "A",
                3, 63,
                "\xef\xbf\xbd"
                "A");
    check_clean("A\xe2\x82", 3, 63, "A\xef\xbf\xbd");
    check_clean("caf\xc3\xa9", 5, 5, "caf"); /* cut before a character that does not fit */
    check_clean("caf\xc3\xa9", 5, 6, "caf\xc3\xa9");
    check_clean("abc", 3, 1, "");
    check_clean("", 0, 63, "");
}

static void test_next(void **state)
{
    static const struct {
        const char *text;
        size_t n, took;
        uint32_t code_point;
        int width;
    } cases[] = {{"ab", 2, 1, 'a', 1},         {"\xe6\x97\xa5x", 4, 3, 0x65e5, 2}, {"\xcc\x81", 2, 2, 0x301, 0},
                 {"\x1b[", 2, 1, 0xfffd, 1},   {"\xe2\x82x", 3, 2, 0xfffd, 1},     {"\xe2\x82", 2, 2, 0xfffd, 1},
                 {"\xff\xff", 2, 1, 0xfffd, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t c;
        assert_int_equal(sur_utf8_next(cases[i].text, cases[i].n, &c), cases[i].took);
        assert_int_equal(c, cases[i].code_point);
        assert_int_equal(sur_utf8_char_width(c), cases[i].width);
    }
}

static void test_width(void **state)
{
    assert_int_equal(sur_utf8_width(""), 0);
    assert_int_equal(sur_utf8_width("plain"), 5);
    assert_int_equal(sur_utf8_width("caf\xc3\xa9"), 4);
    assert_int_equal(sur_utf8_width("cafe\xcc\x81"), 4);             /* combining acute */
    assert_int_equal(sur_utf8_width("\xe6\x97\xa5\xe6\x9c\xac"), 4); /* wide */
    assert_int_equal(sur_utf8_width("\xf0\x9f\x98\x80"), 2);         /* an emoji */
    assert_int_equal(sur_utf8_width("a\xff"
                                    "b\xe2\x82"),
                     4); /* invalid and incomplete bytes count as one each */
    assert_int_equal(sur_utf8_width("\t"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point_survives),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_printable),
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_width),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
