/* For the tests of the sinks: steps that are passed to a sink whose output is kept in memory. */
#ifndef SINK_PLAY_H
#define SINK_PLAY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "sink/sink.h"
#include "text/assemble.h"

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

static inline void open_play(struct play *p, const char *format, struct sink_options options)
{
    memset(p, 0, sizeof *p);
    p->out.fd = memfd_create("sink", 0);
    p->out.name = "memory";
    assert_true(p->out.fd >= 0);
    sur_assembler_init(&p->assembler);
    assert_int_equal(sink_create(&p->sink, format, &p->out, &options), SUR_OK);
    assert_int_equal(sink_start(p->sink, &start), SUR_OK);
}

static inline void send(struct play *p, const struct sur_event *event)
{
    assert_int_equal(sink_event(p->sink, event), SUR_OK);
}

static inline void send_group(struct play *p, const struct sur_group *g)
{
    send(p, &(struct sur_event){
                .type = SUR_EVENT_GROUP, .t0 = g->t0 + p->skipped, .t1 = g->t1 + p->skipped, .text = g->text});
}

/* A step; second: an alternative with ratio 0.5, or NULL. */
static inline void step(struct play *p, enum sur_token_class class, const char *piece, const char *second)
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

static inline void pads(struct play *p, int n)
{
    for (int i = 0; i < n; i++) step(p, SUR_TOKEN_PAD, "[STREAMING_PAD]", NULL);
}

/* A marker, one piece per word of text with its blank, and a pad. */
static inline void say(struct play *p, const char *text)
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

static inline void lose(struct play *p, int64_t samples, enum sur_skip_reason why)
{
    int64_t now = p->step * SUR_TOKEN_SAMPLES + p->skipped;
    send(p, &(struct sur_event){.type = SUR_EVENT_SKIP, .t0 = now, .t1 = now + samples, .why = why});
    p->skipped += samples;
}

static inline void end(struct play *p)
{
    struct sur_group closed;
    char text[SUR_STEP_TEXT_BYTES];
    if (sur_assembler_finish(&p->assembler, text, &closed)) send_group(p, &closed);
    int64_t now = p->step * SUR_TOKEN_SAMPLES + p->skipped;
    send(p, &(struct sur_event){
                .type = SUR_EVENT_END, .t0 = now, .t1 = now, .step = p->step, .skipped = p->skipped, .text = text});
}

static inline const char *written(struct play *p)
{
    ssize_t n = pread(p->out.fd, p->written, sizeof p->written - 1, 0);
    assert_true(n >= 0);
    p->written[n] = 0;
    return p->written;
}

static inline void close_play(struct play *p)
{
    sink_destroy(&p->sink);
    close(p->out.fd);
    assert_int_equal(output_close(&p->out), SUR_OK);
}

#endif
