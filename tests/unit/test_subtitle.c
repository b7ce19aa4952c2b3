/* srt and vtt: expected cues, and random talks whose cues are parsed back. */
#include "sink_play.h"

#include <stdio.h>

#include "util/utf8.h"

static void test_srt_golden(void **state)
{
    struct play p;
    open_play(&p, "srt", plain);
    pads(&p, 9);
    say(&p, " Hello");  /* t1 0.80 */
    say(&p, " there."); /* marker at 12: t1 1.04 */
    assert_string_equal(written(&p), "");
    pads(&p, 7); /* eight with the pad of say(): the line has ended, the end of its cue is not known yet */
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

/* Checks each cue and collects the words, each with a blank before it. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_srt_golden),
        cmocka_unit_test(test_vtt_golden),
        cmocka_unit_test(test_cues_hold_what_was_said),
        cmocka_unit_test(test_cues_never_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
