/* text, jsonl, tokens and the caption file: expected output, and outputs that fail. jsonl is parsed back. */
#include "sink_play.h"

#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "util/clock.h"
#include "util/failure.h"

/* ---- text ---- */

static void test_text_as_it_comes(void **state)
{
    struct play p;
    open_play(&p, "text", plain);
    step(&p, SUR_TOKEN_WORD, "[W]", NULL);
    step(&p, SUR_TOKEN_TEXT, " Hel", NULL);
    assert_string_equal(written(&p), "Hel");
    step(&p, SUR_TOKEN_TEXT, "lo", NULL);
    assert_string_equal(written(&p), "Hello");
    step(&p, SUR_TOKEN_TEXT, " there.", NULL);
    pads(&p, 7); /* 0.56 s */
    assert_string_equal(written(&p), "Hello there.");
    pads(&p, 1); /* 0.64 s */
    assert_string_equal(written(&p), "Hello there.\n");
    pads(&p, 100);
    say(&p, " And then");
    pads(&p, 23); /* 24 with the pad of say(): 1.92 s */
    assert_string_equal(written(&p), "Hello there.\nAnd then");
    pads(&p, 1);
    say(&p, " more \xe2\x80\x9cYes!\xe2\x80\x9d");
    pads(&p, 6);
    assert_string_equal(written(&p), "Hello there.\nAnd then\nmore \xe2\x80\x9cYes!\xe2\x80\x9d");
    pads(&p, 1);
    say(&p, " last");
    end(&p);
    assert_string_equal(written(&p), "Hello there.\nAnd then\nmore \xe2\x80\x9cYes!\xe2\x80\x9d\nlast\n");
    close_play(&p);
}

static void test_text_width(void **state)
{
    struct play p;
    open_play(&p, "text", (struct sink_options){.width = 20});
    step(&p, SUR_TOKEN_WORD, "[W]", NULL);
    step(&p, SUR_TOKEN_TEXT, " one", NULL);
    assert_string_equal(written(&p), ""); /* more of the word may come */
    step(&p, SUR_TOKEN_TEXT, " two", NULL);
    assert_string_equal(written(&p), "one");
    pads(&p, 1);
    assert_string_equal(written(&p), "one two");
    say(&p, " three four five six"); /* "one two three four" are 18 columns */
    assert_string_equal(written(&p), "one two three four\nfive six");
    say(&p, " exactly,ten"); /* 8 + 12 = 20 */
    assert_string_equal(written(&p), "one two three four\nfive six exactly,ten");
    say(&p, " abcdefghijklmnopqrstuvwxyz0123456789"); /* wider than a line */
    say(&p, " \xe6\x97\xa5\xe6\x9c\xac");             /* 4 columns: 16 + 1 + 4 exceeds 20 */
    end(&p);
    assert_string_equal(written(&p),
                        "one two three four\nfive six exactly,ten\nabcdefghijklmnopqrst\nuvwxyz0123456789\n"
                        "\xe6\x97\xa5\xe6\x9c\xac\n");
    close_play(&p);
}

static void test_text_word_in_pieces_is_not_torn(void **state)
{
    struct play p;
    open_play(&p, "text", (struct sink_options){.width = 12});
    step(&p, SUR_TOKEN_WORD, "[W]", NULL);
    step(&p, SUR_TOKEN_TEXT, " a", NULL);
    step(&p, SUR_TOKEN_TEXT, " trans", NULL);
    step(&p, SUR_TOKEN_TEXT, "cription", NULL);
    step(&p, SUR_TOKEN_TEXT, " of", NULL);
    end(&p);
    assert_string_equal(written(&p), "a\ntranscriptio\nn of\n");
    close_play(&p);
}

static void test_text_times_and_skips(void **state)
{
    struct play p;
    open_play(&p, "text", (struct sink_options){.timestamps = true});
    pads(&p, 20);
    say(&p, " Hi."); /* the marker is step 20: t1 = 1.68, t0 = 1.44 */
    pads(&p, 10);
    assert_string_equal(written(&p), "[00:00:01.440] Hi.\n");
    say(&p, " word");
    lose(&p, 51200, SUR_SKIP_LAG);
    say(&p, " after");
    end(&p);
    assert_string_equal(written(&p), "[00:00:01.440] Hi.\n[00:00:02.480] word\n[00:00:02.880] [skipped 3.2 s]\n"
                                     "[00:00:05.920] after\n");
    close_play(&p);
    open_play(&p, "text", plain);
    lose(&p, 16000, SUR_SKIP_GAP);
    end(&p);
    assert_string_equal(written(&p), "[skipped 1.0 s]\n");
    close_play(&p);
}

static void test_text_times_never_go_back(void **state)
{
    struct play p;
    open_play(&p, "text", (struct sink_options){.timestamps = true, .width = 25});
    pads(&p, 49);
    say(&p, " aaaaaaaa bbbbbbbb cccccccc dddddddd"); /* t1 = 4.00; t0 is 0.16 s earlier with each piece */
    end(&p);
    assert_string_equal(written(&p), "[00:00:03.760] aaaaaaaa\n[00:00:03.760] bbbbbbbb\n"
                                     "[00:00:03.760] cccccccc\n[00:00:03.760] dddddddd\n");
    close_play(&p);
}

static void test_text_alternatives(void **state)
{
    struct play p;
    open_play(&p, "text", (struct sink_options){.show_alternatives = true, .cutoff = 0.5f});
    step(&p, SUR_TOKEN_WORD, "[W]", " word");
    step(&p, SUR_TOKEN_TEXT, " Over", NULL);
    step(&p, SUR_TOKEN_TEXT, " there", " their");
    step(&p, SUR_TOKEN_TEXT, ".", NULL);
    pads(&p, 8);
    assert_string_equal(written(&p),
                        "Over [there|their].\n"); /* the full stop ends the line although it follows a bracket */
    close_play(&p);
    open_play(&p, "text", (struct sink_options){.show_alternatives = true, .cutoff = 0.49f});
    step(&p, SUR_TOKEN_TEXT, " there", " their");
    end(&p);
    assert_string_equal(written(&p), "there\n");
    close_play(&p);
    open_play(&p, "text", (struct sink_options){.show_alternatives = true, .cutoff = 1});
    step(&p, SUR_TOKEN_TEXT, " there", " their");
    end(&p);
    assert_string_equal(written(&p), "[there|their|never]\n");
    close_play(&p);
}

static void test_text_nothing(void **state)
{
    struct play p;
    open_play(&p, "text", plain);
    pads(&p, 200);
    end(&p);
    assert_string_equal(written(&p), "");
    close_play(&p);
}

/* ---- jsonl ---- */

static json_t *line_of(const char **text)
{
    const char *newline = strchr(*text, '\n');
    assert_non_null(newline);
    json_error_t error;
    json_t *o = json_loadb(*text, (size_t)(newline - *text), JSON_REJECT_DUPLICATES, &error);
    if (!o) fail_msg("not JSON: %s in %.*s", error.text, (int)(newline - *text), *text);
    *text = newline + 1;
    return o;
}

static void test_jsonl_golden(void **state)
{
    struct play p;
    open_play(&p, "jsonl", plain);
    pads(&p, 4);
    say(&p, " a \"b\"\\");
    lose(&p, 51200, SUR_SKIP_DEVICE);
    pads(&p, 1);
    end(&p);
    assert_string_equal(written(&p),
                        "{\"type\":\"start\",\"version\":\"" SUR_VERSION "\",\"model\":\"/models/\\\"x\\\"" FFFD
                        "\",\"backend\":\"cpu\","
                        "\"delay_ms\":480,\"rate\":16000,\"wall\":\"2026-11-22T15:00:00Z\"}\n"
                        "{\"type\":\"text\",\"t0\":0.080,\"t1\":0.400,\"text\":\" a \\\"b\\\"\\\\\",\"alt\":[]}\n"
                        "{\"type\":\"skip\",\"t0\":0.640,\"t1\":3.840,\"why\":\"device\"}\n"
                        "{\"type\":\"end\",\"t\":3.920,\"steps\":9,\"skipped\":3.200}\n");
    close_play(&p);
}

static void test_jsonl_any_bytes(void **state)
{
    struct play p;
    uint32_t seed = 1;
    open_play(&p, "jsonl", (struct sink_options){.show_alternatives = true, .cutoff = 1});
    for (int i = 0; i < 60; i++) {
        char piece[16];
        for (int k = 0; k < 15; k++) {
            seed = seed * 1664525u + 1013904223u;
            piece[k] = (char)(seed >> 24);
            if (!piece[k]) piece[k] = '"';
        }
        piece[15] = 0;
        step(&p, i % 5 ? SUR_TOKEN_TEXT : SUR_TOKEN_WORD, i % 5 ? piece : "[W]", i % 7 ? " \"alt\"\\" : NULL);
    }
    end(&p);
    const char *text = written(&p);
    int groups = 0, alternatives = 0;
    while (*text) {
        json_t *o = line_of(&text);
        if (strcmp(json_string_value(json_object_get(o, "type")), "text") == 0) groups++;
        alternatives += (int)json_array_size(json_object_get(o, "alt"));
        json_decref(o);
    }
    assert_int_equal(groups, 12);
    assert_true(alternatives > 40);
    close_play(&p);
}

static void test_jsonl_alternatives(void **state)
{
    struct play p;
    open_play(&p, "jsonl", (struct sink_options){.show_alternatives = true, .cutoff = 0.6f});
    say(&p, " before");
    step(&p, SUR_TOKEN_WORD, "[W]", NULL);
    step(&p, SUR_TOKEN_TEXT, " over", " of");
    step(&p, SUR_TOKEN_TEXT, " there", " their");
    step(&p, SUR_TOKEN_TEXT, "!", NULL);
    pads(&p, 1);
    say(&p, " later");
    const char *text = written(&p);
    json_decref(line_of(&text));
    for (int i = 0; i < 3; i++) {
        json_t *o = line_of(&text), *alt = json_object_get(o, "alt"), *first = json_array_get(alt, 0),
               *second = json_array_get(alt, 1);
        assert_int_equal(json_array_size(alt), i == 1 ? 2 : 0);
        if (i == 1) {
            assert_string_equal(json_string_value(json_array_get(first, 0)), " of there!");
            assert_true(fabs(json_real_value(json_array_get(first, 1)) - 0.5) < 1e-6);
            assert_string_equal(json_string_value(json_array_get(second, 0)), " over their!");
        }
        json_decref(o);
    }
    close_play(&p);
}

/* ---- tokens ---- */

static void test_tokens_golden(void **state)
{
    struct play p;
    open_play(&p, "tokens", plain);
    pads(&p, 1);
    step(&p, SUR_TOKEN_TEXT, " caf\xc3\xa9", NULL);
    step(&p, SUR_TOKEN_TEXT, "\t\n\r\\ \x01\x7f\xe2\x82", NULL);
    step(&p, SUR_TOKEN_TEXT, "\xac\xc2\x9b\xff\xe2\x80\xae", NULL);
    end(&p);
    assert_string_equal(written(&p), "0\t32\t1.250000\t[STREAMING_PAD]\n"
                                     "1\t1000\t1.250000\t caf\xc3\xa9\n"
                                     "2\t1000\t1.250000\t\\t\\n\\r\\\\ \\x01\\x7f\\xe2\\x82\n"
                                     "3\t1000\t1.250000\t\\xac\\xc2\\x9b\\xff\\xe2\\x80\\xae\n");
    struct sur_event zero = {
        .type = SUR_EVENT_TOKEN, .step = 4, .id = 1000, .piece = "\0", .piece_bytes = 1, .text = FFFD};
    send(&p, &zero);
    assert_string_equal(strrchr(written(&p), '\t'), "\t\\x00\n");
    close_play(&p);
}

/* ---- the caption file ---- */

static const char *read_file(const char *path)
{
    static char text[4096];
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    size_t n = fread(text, 1, sizeof text - 1, f);
    text[n] = 0;
    fclose(f);
    return text;
}

static char watched[64]; /* a folder, while rename is watched */
static int seen_beside;

static int count_beside(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) n += e->d_name[0] == '.' && e->d_name[1] == 's';
    if (d) closedir(d);
    return n;
}

/* Replaces the C library's rename: while it runs, a signal finds the temporary file. */
int rename(const char *from, const char *to)
{
    if (watched[0]) {
        seen_beside += count_beside(watched);
        sink_caption_file_abandon();
        assert_int_equal(count_beside(watched), 0);
    }
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

/* If the program ends while captions are being written, no temporary file is left, and the caption file is empty. */
static void test_caption_file_abandoned(void **state)
{
    char folder[] = "/tmp/test_sinks.XXXXXX", path[64];
    struct play p = {0};
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/caption", folder);
    sur_assembler_init(&p.assembler);
    assert_int_equal(sink_create_caption_file(&p.sink, path, &(struct sink_options){.width = 20}), SUR_OK);
    say(&p, " one");
    assert_string_equal(read_file(path), "one\n");
    snprintf(watched, sizeof watched, "%s", folder);
    struct sur_event e = {.type = SUR_EVENT_TOKEN, .text = " two three", .piece = " two three", .piece_bytes = 10};
    assert_int_equal(sink_event(p.sink, &e), SUR_ERR_IO); /* the temporary file has gone */
    assert_int_equal(sink_event(p.sink, &e), SUR_OK);     /* reported once */
    watched[0] = 0;
    assert_true(seen_beside > 0);
    assert_string_equal(read_file(path), "");
    sink_destroy(&p.sink);
    unlink(path);
    assert_int_equal(rmdir(folder), 0);
}

static void test_caption_file(void **state)
{
    char folder[] = "/tmp/test_sinks.XXXXXX", path[64], link[64];
    struct play p = {0};
    struct stat is;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/caption", folder);
    snprintf(link, sizeof link, "%s/link", folder);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, "old", 3), 3);
    assert_int_equal(fchmod(fd, 0640), 0);
    close(fd);
    assert_int_equal(symlink("caption", link), 0);

    sur_assembler_init(&p.assembler);
    assert_int_equal(sink_create_caption_file(&p.sink, link, &(struct sink_options){.width = 20}), SUR_OK);
    assert_string_equal(read_file(path), "");
    assert_int_equal(stat(path, &is), 0);
    assert_int_equal(is.st_mode & 07777, 0640);
    assert_int_equal(lstat(link, &is), 0);
    assert_true(S_ISLNK(is.st_mode));
    say(&p, " one two three four");
    assert_string_equal(read_file(path), "one two three four\n");
    say(&p, " five");
    assert_string_equal(read_file(path), "one two three four\nfive\n");
    say(&p, " six seven eight nine.");
    assert_string_equal(read_file(path), "five six seven eight\nnine.\n");
    pads(&p, 7);
    say(&p, " ten");
    assert_string_equal(read_file(path), "nine.\nten\n");
    pads(&p, 48);
    assert_string_equal(read_file(path), "nine.\nten\n");
    pads(&p, 1);
    assert_string_equal(read_file(path), "");
    say(&p, " back");
    assert_int_equal(sink_tick(p.sink, sur_clock_ns() + 3000000000), SUR_OK);
    assert_string_equal(read_file(path), "back\n");
    assert_int_equal(sink_tick(p.sink, sur_clock_ns() + 4100000000), SUR_OK);
    assert_string_equal(read_file(path), "");
    say(&p, " still there");
    sink_destroy(&p.sink);
    assert_string_equal(read_file(path), "");
    assert_int_equal(stat(path, &is), 0);
    assert_int_equal(is.st_mode & 07777, 0640);

    assert_int_equal(sink_create_caption_file(&p.sink, "/tmp", &plain), SUR_ERR_IO);
    assert_int_equal(sink_create_caption_file(&p.sink, "/nonexistent/x", &plain), SUR_ERR_IO);
    assert_null(p.sink);
    unlink(path);
    unlink(link);
    assert_int_equal(rmdir(folder), 0); /* nothing else was left in it */
}

/* ---- output files ---- */

static void test_reader_gone(void **state)
{
    int ends[2];
    struct output out;
    struct sink *sink;
    struct sur_event e = {.type = SUR_EVENT_TOKEN, .text = "word", .piece = "word", .piece_bytes = 4};
    assert_int_equal(pipe(ends), 0);
    signal(SIGPIPE, SIG_IGN);
    out = (struct output){.fd = ends[1], .name = "pipe"};
    assert_int_equal(sink_create(&sink, "tokens", &out, &plain), SUR_OK);
    assert_int_equal(sink_event(sink, &e), SUR_OK);
    close(ends[0]);
    assert_int_equal(sink_event(sink, &e), OUTPUT_CLOSED);
    assert_int_equal(sink_event(sink, &e), OUTPUT_CLOSED);
    sink_destroy(&sink);
    close(ends[1]);
    output_close(&out);
}

static void test_cannot_write(void **state)
{
    struct output out;
    struct sink *sink;
    assert_int_equal(output_open(&out, "/nonexistent/x"), SUR_ERR_IO);
    assert_non_null(strstr(failure_text(), "/nonexistent/x"));
    assert_int_equal(output_open(&out, "/dev/full"), SUR_OK);
    assert_int_equal(sink_create(&sink, "jsonl", &out, &plain), SUR_OK);
    assert_int_equal(sink_start(sink, &start), SUR_ERR_IO);
    assert_non_null(strstr(failure_text(), "/dev/full"));
    sink_destroy(&sink);
    output_close(&out);
    assert_int_equal(sink_create(&sink, "html", &out, &plain), SUR_ERR_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_as_it_comes),
        cmocka_unit_test(test_text_width),
        cmocka_unit_test(test_text_word_in_pieces_is_not_torn),
        cmocka_unit_test(test_text_times_and_skips),
        cmocka_unit_test(test_text_times_never_go_back),
        cmocka_unit_test(test_text_alternatives),
        cmocka_unit_test(test_text_nothing),
        cmocka_unit_test(test_jsonl_golden),
        cmocka_unit_test(test_jsonl_any_bytes),
        cmocka_unit_test(test_jsonl_alternatives),
        cmocka_unit_test(test_tokens_golden),
        cmocka_unit_test(test_caption_file),
        cmocka_unit_test(test_caption_file_abandoned),
        cmocka_unit_test(test_reader_gone),
        cmocka_unit_test(test_cannot_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
