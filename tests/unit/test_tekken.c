/* tekken.json: pieces, special tokens, streaming settings, and every kind of error. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>
#include <malloc.h>

#include "surtitle.h"
#include "text/tekken.h"

/* Five special tokens (rank 3 without a name) and four entries, of which a model of 8 ids uses three. */
#define CONFIG "\"config\": {\"pattern\": \"x\", \"default_num_special_tokens\": 5, \"version\": \"v13\"}"
#define VOCAB                                                                                                          \
    "\"vocab\": [{\"rank\": 0, \"token_bytes\": \"AA==\", \"token_str\": \"\\u0000\"},"                                \
    " {\"rank\": 1, \"token_bytes\": \"4oI=\", \"token_str\": null}, {\"rank\": 2, \"token_bytes\": \"IHdv\"},"        \
    " {\"rank\": 3, \"token_bytes\": \"+/8A\"}]"
#define SPECIAL                                                                                                        \
    "\"special_tokens\": [{\"rank\": 0, \"token_str\": \"<s>\", \"is_control\": true}, {\"rank\": 1, \"token_str\": "  \
    "\"</s>\"},"                                                                                                       \
    " {\"rank\": 4, \"token_str\": \"[STREAMING_WORD]\"}, {\"rank\": 2, \"token_str\": \"[STREAMING_PAD]\"}]"
#define AUDIO "\"audio\": {\"transcription_delay_ms\": 480, \"streaming_n_left_pad_tokens\": 32}"

static const char good[] = "{" CONFIG ", " VOCAB ", " SPECIAL ", " AUDIO "}";

static int parse(struct sur_tekken **t, const char *text, int vocab_size)
{
    return sur_tekken_parse(t, text, strlen(text), vocab_size);
}

static void expect_refused(const char *text, int vocab_size, const char *message)
{
    struct sur_tekken *t = NULL;
    assert_int_equal(parse(&t, text, vocab_size), SUR_ERR_MODEL);
    assert_null(t);
    if (strncmp(sur_error_text(), message, strlen(message)) != 0) fail_msg("%s\nnot %s", sur_error_text(), message);
}

/* `good` with `from` replaced. */
static void refused(const char *from, const char *to, const char *message)
{
    const char *at = strstr(good, from);
    assert_non_null(at);
    char *text = malloc(sizeof good + strlen(to));
    sprintf(text, "%.*s%s%s", (int)(at - good), good, to, at + strlen(from));
    expect_refused(text, 8, message);
    free(text);
}

static void expect_piece(const struct sur_tekken *t, int32_t id, const char *bytes, size_t n, int special)
{
    size_t got_n;
    int got_special = -1;
    const char *got = sur_tekken_piece(t, id, &got_n, &got_special);
    assert_non_null(got);
    assert_int_equal(got_n, n);
    assert_memory_equal(got, bytes, n + 1); /* terminated, too */
    assert_int_equal(got_special, special);
}

static void test_good(void **state)
{
    struct sur_tekken *t = NULL;
    assert_int_equal(parse(&t, good, 8), SUR_OK);
    const struct sur_tekken_info *info = sur_tekken_info(t);
    assert_int_equal(info->n_special, 5);
    assert_int_equal(info->n_entries, 4);
    assert_int_equal(info->bos, 0);
    assert_int_equal(info->eos, 1);
    assert_int_equal(info->pad, 2);
    assert_int_equal(info->word, 4);
    assert_int_equal(info->n_left_pad, 32);
    assert_int_equal(info->delay_ms, 480);
    expect_piece(t, 0, "<s>", 3, 1);
    expect_piece(t, 2, "[STREAMING_PAD]", 15, 1);
    expect_piece(t, 3, "<SPECIAL_3>", 11, 1);
    expect_piece(t, 5, "\0", 1, 0);       /* the byte 0 */
    expect_piece(t, 6, "\xe2\x82", 2, 0); /* the beginning of a character */
    expect_piece(t, 7, " wo", 3, 0);
    sur_tekken_destroy(&t);
    assert_null(t);
    sur_tekken_destroy(&t);
    assert_int_equal(parse(&t, good, 9), SUR_OK);
    expect_piece(t, 8, "\xfb\xff\0", 3, 0);
    sur_tekken_destroy(&t);
}

static void test_vocabulary(void **state)
{
    expect_refused(good, 10, "tekken.json: vocab holds 4 entries, the model needs 5");
    expect_refused(good, 5, "tekken.json: config.default_num_special_tokens must be a whole number from 1 to 4");
    expect_refused(good, 1, "tekken.json: a vocabulary of 1 ids");
    expect_refused(good, (1 << 20) + 1, "tekken.json: a vocabulary of 1048577 ids");
    expect_refused(good, -1, "tekken.json: a vocabulary of -1 ids");
    refused("\"rank\": 2, \"token_bytes\": \"IHdv\"", "\"rank\": 3, \"token_bytes\": \"IHdv\"",
            "tekken.json: vocab[2].rank must be 2");
    refused("\"rank\": 2, \"token_bytes\"", "\"token_bytes\"", "tekken.json: vocab[2].rank must be 2");
    refused("\"token_bytes\": \"IHdv\"", "\"token_str\": \" wo\"", "tekken.json: vocab[2].token_bytes is missing");
    refused("\"IHdv\"", "7", "tekken.json: vocab[2].token_bytes is missing");
    refused("{\"rank\": 2, \"token_bytes\": \"IHdv\"}", "[]", "tekken.json: vocab[2]: not a JSON object");
    const char *not_base64[] = {"\"IHd\"",  "\"IH=v\"", "\"I===\"", "\"IHd*\"",    "\"IHdv\\u0000AAA\"",
                                "\"AB==\"", "\"AAB=\"", "\"=HdA\"", "\"IHd=IHdv\""};
    for (size_t i = 0; i < sizeof not_base64 / sizeof not_base64[0]; i++)
        refused("\"IHdv\"", not_base64[i], "tekken.json: vocab[2].token_bytes is not base64");
    refused("\"IHdv\"", "\"\"", "tekken.json: vocab[2].token_bytes must be 1 to 256 bytes");
    char piece[400];
    memset(piece, 'A', sizeof piece);
    piece[0] = '"';
    strcpy(piece + 1 + 344, "\"");
    refused("\"IHdv\"", piece, "tekken.json: vocab[2].token_bytes must be 1 to 256 bytes");
    refused(VOCAB, "\"vocab\": {}", "tekken.json: vocab is missing");
    refused(VOCAB, "\"v\": 1", "tekken.json: vocab is missing");
    refused(CONFIG, "\"c\": 1", "tekken.json: config is missing");
    refused("\"default_num_special_tokens\": 5", "\"default_num_special_tokens\": -5",
            "tekken.json: config.default_num_special_tokens must be a whole number from 1 to 7");
}

static void test_specials(void **state)
{
    refused(SPECIAL, "\"s\": 1", "tekken.json: special_tokens is missing");
    refused("\"<s>\"", "\"<unk>\"", "tekken.json: special_tokens: <s> is missing");
    refused("\"</s>\"", "\"<unk>\"", "tekken.json: special_tokens: </s> is missing");
    refused("[STREAMING_PAD]", "[PAD]", "tekken.json: special_tokens: [STREAMING_PAD] is missing");
    refused("[STREAMING_WORD]", "[WORD]", "tekken.json: special_tokens: [STREAMING_WORD] is missing");
    refused("[STREAMING_WORD]", "[STREAMING_PAD]", "tekken.json: special_tokens: [STREAMING_PAD] is listed twice");
    refused("{\"rank\": 4", "{\"rank\": 5", "tekken.json: special_tokens[2].rank must be a whole number from 0 to 4");
    refused("{\"rank\": 4", "{\"rank\": 1", "tekken.json: special_tokens[2].rank: 1 is listed twice");
    refused("\"<s>\"", "null", "tekken.json: special_tokens[0].token_str must be a string of 1 to 256 bytes");
    refused("\"<s>\"", "\"\"", "tekken.json: special_tokens[0].token_str must be a string of 1 to 256 bytes");
    refused("\"<s>\"", "\"<s>\\u0000\"", "tekken.json: special_tokens[0].token_str must be a string of 1 to 256 bytes");
    refused("[{\"rank\": 0, \"token_str\": \"<s>\", \"is_control\": true}", "[1",
            "tekken.json: special_tokens[0] must be an object");
}

static void test_audio(void **state)
{
    refused(AUDIO, "\"a\": 1", "tekken.json: audio is missing");
    refused(AUDIO, "\"audio\": null", "tekken.json: audio must be an object");
    refused("\"streaming_n_left_pad_tokens\": 32", "\"x\": 32",
            "tekken.json: audio.streaming_n_left_pad_tokens is missing");
    refused("_tokens\": 32", "_tokens\": 193",
            "tekken.json: audio.streaming_n_left_pad_tokens must be a whole number from 1 to 161");
    refused("\"transcription_delay_ms\": 480, ", "", "tekken.json: audio.transcription_delay_ms is missing");
    refused("480", "481", "tekken.json: audio.transcription_delay_ms must be 80 to 1200 in steps of 80, or 2400");
    refused("480", "1280", "tekken.json: audio.transcription_delay_ms must be 80 to 1200 in steps of 80, or 2400");
    refused("480", "1e9", "tekken.json: audio.transcription_delay_ms must be a whole number from 80 to 2400");
    refused("480", "0", "tekken.json: audio.transcription_delay_ms must be a whole number from 80 to 2400");
}

static void test_broken_json(void **state)
{
    struct sur_tekken *t = NULL;
    for (size_t n = 0; n < sizeof good - 1; n++) {
        char *cut = malloc(n + 1);
        memcpy(cut, good, n);
        assert_int_equal(sur_tekken_parse(&t, cut, n, 8), SUR_ERR_MODEL);
        assert_null(t);
        free(cut);
    }
    refused("\"version\": \"v13\"", "\"version\": 1, \"version\": 2",
            "tekken.json: broken JSON at line 1: duplicate object key");
    refused("\"x\"", "\"\xc0\x80\"", "tekken.json: broken JSON at line 1: unable to decode byte 0xc0");
    refused("\"x\"", "99999999999999999999", "tekken.json: broken JSON at line 1: too big integer");
    expect_refused("7", 8, "tekken.json: broken JSON at line 1: '[' or '{' expected");
    assert_int_equal(sur_tekken_parse(&t, good, (128u << 20) + 1, 8), SUR_ERR_MODEL);
    assert_string_equal(sur_error_text(), "tekken.json: more than 134217728 bytes");
}

/* The brackets and commas of the array are found before its entries are parsed. */
static void test_entries(void **state)
{
    const char *third = "{\"rank\": 2, \"token_bytes\": \"IHdv\"}";
    refused(third, "", "tekken.json: vocab[2]: broken JSON at line 1: '[' or '{' expected");
    refused(third, "7", "tekken.json: vocab[2]: broken JSON at line 1: '[' or '{' expected");
    refused(third, "{\"rank\": 2, \"token_bytes\": \"IHdv\"", "tekken.json: broken JSON: vocab has no end");
    refused(third, "{]", "tekken.json: vocab[2]: broken JSON at line 1: string or '}' expected");
    refused(third, "{\"rank\": 2, \"token_bytes\": \"IHdv\"} {}", "tekken.json: vocab[2]: broken JSON at line 1");
    refused(third, "{\"rank\": 2, \"token_bytes\": \"IHdv\"}: {}", "tekken.json: vocab[2]: broken JSON: ':' instead");
    refused("\"+/8A\"}]", "\"+/8A\"}] []", "tekken.json: vocab[3]: broken JSON: ']' instead");
    refused("\"+/8A\"}]", "\"+/8A\"},]", "tekken.json: vocab[4]: broken JSON at line 1: '[' or '{' expected");
    refused(
        "\"rank\": 3", "\"rank\": 3, \"rank\": 3",
        "tekken.json: vocab[3]: broken JSON at line 1: duplicate object key"); /* although the model has no id for it */
    refused(VOCAB, VOCAB ", " VOCAB, "tekken.json: broken JSON at line 1: duplicate object key");
    refused(VOCAB, "\"vocab\": [ ]", "tekken.json: vocab holds 0 entries, the model needs 3");
    refused(VOCAB, "\"voca\\u0062\": [ ]", "tekken.json: vocab is missing");
    refused(CONFIG, "\"x\": {\"vocab\": []}", "tekken.json: config is missing"); /* not in the outermost object */
    refused(VOCAB ", ", "\"vocab\": [\n{},\n\n{}\n],\n7: ", "tekken.json: broken JSON at line 6: ");

    struct sur_tekken *t = NULL;
    const char *blanks =
        "\n{ " SPECIAL " , \"]\\\"[\": \"}\\\\\", \"vocab\" : [ {\"rank\":0,\"token_bytes\":\"AA==\",\"x\":\"]},[\"}\t,"
        "{\"rank\":1,\"token_bytes\":\"4oI=\",\"y\":[{},[]]}\r\n] , " CONFIG ", " AUDIO "}";
    assert_int_equal(parse(&t, blanks, 7), SUR_OK);
    expect_piece(t, 6, "\xe2\x82", 2, 0);
    sur_tekken_destroy(&t);
}

/* The bytes that jansson has allocated, and their maximum. */
static size_t held, most;

static void *count_malloc(size_t n)
{
    void *p = malloc(n);
    held += p ? malloc_usable_size(p) + 8 : 0;
    most = held > most ? held : most;
    return p;
}

static void count_free(void *p)
{
    held -= p ? malloc_usable_size(p) + 8 : 0;
    free(p);
}

/* begin, then `each` up to n_bytes, then end; each # becomes another number. Parsing never takes more than 32 MiB.
 * Returns whether the file was refused because it would. */
static int refused_for_memory(const char *begin, const char *each, const char *end, size_t n_bytes)
{
    struct sur_tekken *t = NULL;
    char *text = malloc(n_bytes + 1024), *at = stpcpy(text, begin);
    for (unsigned n = 0; (size_t)(at - text) < n_bytes;)
        for (const char *c = each; *c; c++) {
            if (*c != '#') *at++ = *c;
            for (unsigned i = 0, v = *c == '#' ? n++ : 0; *c == '#' && i < 6; i++, v /= 16)
                *at++ = (char)('a' + v % 16);
        }
    strcpy(at, end);
    most = 0;
    assert_int_equal(parse(&t, text, 8), SUR_ERR_MODEL);
    if (most > 32 << 20) fail_msg("%s%s...%s: %zu bytes held", begin, each, end, most);
    assert_int_equal(held, 0);
    free(text);
    return strstr(sur_error_text(), "of memory") || strstr(sur_error_text(), "besides vocab");
}

static void test_memory(void **state)
{
    static const char *const each[] = {"{},",     "[],",           "\"\",",   "1,",          "1.5,",
                                       "\"#\",",  "{\"a\":1},",    "[[[]]],", "{\"a\":{}},", "[1,2,3,4],",
                                       "\\u0001", "{\"#\":\"\"},", "[\"\"],"};
    json_set_alloc_funcs(count_malloc, count_free);
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        const char *quote = each[i][0] == '\\' ? "\"" : "1";
        char begin[128], end[64];
        /* the entries of vocab, one entry, and another name; and the largest of each kind that is parsed */
        snprintf(end, sizeof end, "%s]}", quote);
        snprintf(begin, sizeof begin, "{\"vocab\":[%s", *quote == '"' ? quote : "");
        refused_for_memory(begin, each[i], end, 2 << 20);
        snprintf(begin, sizeof begin, "{" CONFIG ",\"v\":[%s", *quote == '"' ? quote : "");
        assert_true(refused_for_memory(begin, each[i], end, 9 << 20));
        for (size_t n = 64 << 10; !refused_for_memory(begin, each[i], end, n); n += n / 3) {}
    }
    assert_true(refused_for_memory("{\"v\":{", "\"#\":0,", "\"x\":0}}", 9 << 20));
    for (size_t n = 64 << 10; !refused_for_memory("{\"v\":{", "\"#\":0,", "\"x\":0}}", n); n += n / 3) {}
    refused_for_memory("{" CONFIG "," SPECIAL ",\"vocab\":[[", "{},", "1]]}", 20 << 20);
    assert_true(strstr(sur_error_text(), "vocab[0]: reading it takes more than 64 KiB of memory"));
    json_set_alloc_funcs(malloc, free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),   cmocka_unit_test(test_vocabulary),  cmocka_unit_test(test_specials),
        cmocka_unit_test(test_audio),  cmocka_unit_test(test_broken_json), cmocka_unit_test(test_entries),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
