/* Every format against what it should be, from scripts of steps. jsonl is parsed back, srt and vtt taken apart. */
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "sink/lines.h"
#include "sink/sink.h"
#include "text/assemble.h"
#include "util/clock.h"
#include "util/utf8.h"

#define FFFD "\xef\xbf\xbd"

struct play {
    struct sink *sink;
    struct output out;
    struct sur_assembler assembler;
    int64_t step, skipped;
    char written[65536];
};

static const struct sink_options plain; /* no wrapping, no times, no alternatives */
static const struct sink_start start = {"/models/\"x\"\n", "cpu", "2026-11-22T15:00:00Z", 480, 16000};

static void open_play(struct play *p, const char *format, struct sink_options options)
{
    memset(p, 0, sizeof *p);
    p->out.fd = memfd_create("sink", 0);
    p->out.name = "memory";
    assert_true(p->out.fd >= 0);
    sur_assembler_init(&p->assembler);
    assert_int_equal(sink_create(&p->sink, format, &p->out, &options), SUR_OK);
    assert_int_equal(sink_start(p->sink, &start), SUR_OK);
}

static void send(struct play *p, const struct sur_event *event)
{
    assert_int_equal(sink_event(p->sink, event), SUR_OK);
}

static void send_group(struct play *p, const struct sur_group *g)
{
    send(p, &(struct sur_event){
                .type = SUR_EVENT_GROUP, .t0 = g->t0 + p->skipped, .t1 = g->t1 + p->skipped, .text = g->text});
}

/* A step, with runners-up "text" of ratio 0.5 if given. */
static void step(struct play *p, enum sur_token_class class, const char *piece, const char *second)
{
    char text[SUR_STEP_TEXT_BYTES];
    struct sur_group closed;
    bool closes =
        sur_assembler_step(&p->assembler, p->step, class, (const uint8_t *)piece, strlen(piece), text, &closed);
    struct sur_event e = {.type = SUR_EVENT_TOKEN, .step = p->step, .id = class == SUR_TOKEN_TEXT ? 1000 : 32};
    e.special = class != SUR_TOKEN_TEXT;
    e.t0 = p->assembler.group.t0 + p->skipped;
    e.t1 = p->assembler.group.t1 + p->skipped;
    e.margin = 1.25f;
    e.piece = piece;
    e.piece_bytes = strlen(piece);
    e.text = text;
    if (second) {
        e.alternatives[e.n_alternatives++] = (struct sur_alternative){2000, 0.5f, second};
        e.alternatives[e.n_alternatives++] = (struct sur_alternative){2001, 0.25f, " never"};
        e.alternatives[e.n_alternatives++] = (struct sur_alternative){32, 0.25f, ""};
    }
    send(p, &e);
    if (closes) send_group(p, &closed);
    p->step++;
}

static void pads(struct play *p, int n)
{
    for (int i = 0; i < n; i++) step(p, SUR_TOKEN_PAD, "[STREAMING_PAD]", NULL);
}

/* A marker, the words of text as a piece each with its blank, a pad. */
static void say(struct play *p, const char *text)
{
    char piece[256];
    step(p, SUR_TOKEN_WORD, "[STREAMING_WORD]", NULL);
    while (*text) {
        size_t n = strspn(text, " ");
        n += strcspn(text + n, " ");
        memcpy(piece, text, n);
        piece[n] = 0;
        step(p, SUR_TOKEN_TEXT, piece, NULL);
        text += n;
    }
    pads(p, 1);
}

static void lose(struct play *p, int64_t samples, enum sur_skip_reason why)
{
    int64_t now = p->step * SUR_TOKEN_SAMPLES + p->skipped;
    send(p, &(struct sur_event){.type = SUR_EVENT_SKIP, .t0 = now, .t1 = now + samples, .why = why});
    p->skipped += samples;
}

static void end(struct play *p)
{
    struct sur_group closed;
    char text[SUR_STEP_TEXT_BYTES];
    if (sur_assembler_finish(&p->assembler, text, &closed)) send_group(p, &closed);
    int64_t now = p->step * SUR_TOKEN_SAMPLES + p->skipped;
    send(p, &(struct sur_event){
                .type = SUR_EVENT_END, .t0 = now, .t1 = now, .step = p->step, .skipped = p->skipped, .text = text});
}

static const char *written(struct play *p)
{
    ssize_t n = pread(p->out.fd, p->written, sizeof p->written - 1, 0);
    assert_true(n >= 0);
    p->written[n] = 0;
    return p->written;
}

static void close_play(struct play *p)
{
    sink_destroy(&p->sink);
    close(p->out.fd);
    assert_int_equal(output_close(&p->out), SUR_OK);
}

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
    pads(&p, 23); /* with say's own pad 24: 1.92 s */
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
    say(&p, " \xe6\x97\xa5\xe6\x9c\xac");             /* 4 columns: 16 + 1 + 4 passes 20 */
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

static void test_text_alternatives(void **state)
{
    struct play p;
    open_play(&p, "text", (struct sink_options){.show_alternatives = true, .cutoff = 0.5f});
    step(&p, SUR_TOKEN_WORD, "[W]", " word");
    step(&p, SUR_TOKEN_TEXT, " Over", NULL);
    step(&p, SUR_TOKEN_TEXT, " there", " their");
    step(&p, SUR_TOKEN_TEXT, ".", NULL);
    pads(&p, 8);
    assert_string_equal(written(&p), "Over [there|their].\n"); /* the brackets hide no full stop */
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

/* ---- srt, vtt ---- */

static void test_srt_golden(void **state)
{
    struct play p;
    open_play(&p, "srt", plain);
    pads(&p, 9);
    say(&p, " Hello");  /* t1 0.80 */
    say(&p, " there."); /* marker at 12: t1 1.04 */
    assert_string_equal(written(&p), "");
    pads(&p, 7); /* with say's pad eight: the line is over, its end is not yet known */
    assert_string_equal(written(&p), "");
    say(&p, " Next"); /* marker at 22: t1 1.84, t0 1.60, which ends the first cue */
    assert_string_equal(written(&p), "1\n00:00:00,560 --> 00:00:01,600\nHello there.\n\n");
    pads(&p, 24); /* 2 s without text */
    assert_string_equal(written(&p), "1\n00:00:00,560 --> 00:00:01,600\nHello there.\n\n"
                                     "2\n00:00:01,600 --> 00:00:03,340\nNext\n\n");
    lose(&p, 51200, SUR_SKIP_LAG); /* at step 49 */
    say(&p, " End");
    end(&p);
    assert_string_equal(written(&p), "1\n00:00:00,560 --> 00:00:01,600\nHello there.\n\n"
                                     "2\n00:00:01,600 --> 00:00:03,340\nNext\n\n"
                                     "3\n00:00:03,920 --> 00:00:07,120\n[skipped 3.2 s]\n\n"
                                     "4\n00:00:07,120 --> 00:00:08,700\nEnd\n\n");
    close_play(&p);
}

static void test_vtt_golden(void **state)
{
    struct play p;
    open_play(&p, "vtt", plain);
    assert_string_equal(written(&p), "WEBVTT\n\n");
    pads(&p, 9);
    say(&p, " <b> & --> x");
    end(&p);
    assert_string_equal(written(&p), "WEBVTT\n\n00:00:00.160 --> 00:00:02.300\n&lt;b&gt; &amp; --&gt; x\n\n");
    close_play(&p);
    open_play(&p, "srt", plain);
    say(&p, " --> --->");
    end(&p);
    assert_string_equal(written(&p), "1\n00:00:00,000 --> 00:00:01,580\n--\xe2\x80\xba ---\xe2\x80\xba\n\n");
    close_play(&p);
}

static int64_t ms_of(const char *clock)
{
    int h, m, s, ms;
    assert_int_equal(sscanf(clock, "%d:%d:%d%*c%d", &h, &m, &s, &ms), 4);
    return ((h * 60 + m) * 60 + s) * (int64_t)1000 + ms;
}

/* Checks cues one by one and gathers their words, each with a blank before it. */
static int check_cues(char *text, bool srt, char *words)
{
    int n = 0;
    int64_t last_end = 0;
    while (*text) {
        char *cue_end = strstr(text, "\n\n");
        assert_non_null(cue_end);
        cue_end[1] = 0;
        char *line = strtok(text, "\n"), number[16];
        if (srt) {
            snprintf(number, sizeof number, "%d", n + 1);
            assert_string_equal(line, number);
            line = strtok(NULL, "\n");
        }
        assert_int_equal(strlen(line), 29);
        assert_memory_equal(line + 12, " --> ", 5);
        assert_true(ms_of(line) >= last_end && ms_of(line + 17) > ms_of(line));
        last_end = ms_of(line + 17);
        int rows = 0;
        while ((line = strtok(NULL, "\n"))) {
            assert_true(sur_utf8_width(line) >= 1 && sur_utf8_width(line) <= 42);
            assert_true(line[0] != ' ' && line[strlen(line) - 1] != ' ');
            strcat(strcat(words, " "), line);
            rows++;
        }
        assert_true(rows >= 1 && rows <= 2);
        text = cue_end + 2;
        n++;
    }
    return n;
}

static void talk(struct play *p, char *said, bool one_group)
{
    uint32_t seed = 7;
    *said = 0;
    for (int i = 0; i < 300; i++) {
        char word[64] = " ";
        seed = seed * 1664525u + 1013904223u;
        for (uint32_t k = 0; k <= (seed >> 20) % 9; k++) strcat(word, k % 4 == 3 ? "\xc3\xa9" : "o");
        if ((seed >> 8) % 11 == 0) strcat(word, ".");
        strcat(said, word);
        if (one_group) {
            step(p, SUR_TOKEN_TEXT, word, NULL);
        } else {
            say(p, word);
            pads(p, (int)(seed >> 16) % 6 == 0 ? (int)(seed >> 12) % 31 : 0);
        }
    }
    end(p);
}

static void check_talk(const char *format, bool one_group)
{
    struct play p;
    char said[16384], heard[16384] = "";
    open_play(&p, format, plain);
    talk(&p, said, one_group);
    bool srt = strcmp(format, "srt") == 0;
    written(&p);
    if (!srt) assert_memory_equal(p.written, "WEBVTT\n\n", 8);
    int cues = check_cues(p.written + (srt ? 0 : 8), srt, heard);
    assert_string_equal(heard, said);
    assert_true(cues >= (int)strlen(said) / 84);
    close_play(&p);
}

static void test_cues_hold_what_was_said(void **state)
{
    check_talk("srt", false);
    check_talk("vtt", false);
    check_talk("srt", true); /* groups of 960 bytes, each over several cues */
}

static void test_cues_never_overlap(void **state)
{
    struct play p;
    open_play(&p, "srt", plain);
    say(&p, " One");
    pads(&p, 25);                                /* the cue is written: it ends at 0.08 + 1.5 s */
    say(&p, " a b c d e f g h i j k l m n o p"); /* sixteen pieces reach 2.56 s back */
    end(&p);
    assert_string_equal(written(&p), "1\n00:00:00,000 --> 00:00:01,580\nOne\n\n"
                                     "2\n00:00:01,580 --> 00:00:03,820\na b c d e f g h i j k l m n o p\n\n");
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
    assert_int_equal(rmdir(folder), 0); /* nothing else was left there */
}

/* ---- where it goes ---- */

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
    assert_non_null(strstr(sur_error_text(), "/nonexistent/x"));
    assert_int_equal(output_open(&out, "/dev/full"), SUR_OK);
    assert_int_equal(sink_create(&sink, "jsonl", &out, &plain), SUR_OK);
    assert_int_equal(sink_start(sink, &start), SUR_ERR_IO);
    assert_non_null(strstr(sur_error_text(), "/dev/full"));
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
        cmocka_unit_test(test_text_alternatives),
        cmocka_unit_test(test_text_nothing),
        cmocka_unit_test(test_jsonl_golden),
        cmocka_unit_test(test_jsonl_any_bytes),
        cmocka_unit_test(test_jsonl_alternatives),
        cmocka_unit_test(test_srt_golden),
        cmocka_unit_test(test_vtt_golden),
        cmocka_unit_test(test_cues_hold_what_was_said),
        cmocka_unit_test(test_cues_never_overlap),
        cmocka_unit_test(test_tokens_golden),
        cmocka_unit_test(test_caption_file),
        cmocka_unit_test(test_reader_gone),
        cmocka_unit_test(test_cannot_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
