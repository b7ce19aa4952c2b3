/* A sink writes the events of a session in one format.
 *
 * Thread-safety: main thread only.
 * Errors: every call that returns int returns SUR_OK, OUTPUT_CLOSED (the reader has gone; destroy the sink, this is not
 * an error), or SUR_ERR_IO or SUR_ERR_MEMORY with an error line. Units: times in samples at 16 kHz since the first
 * sample. Text in events is printable UTF-8 (surtitle.h). */
#ifndef SINK_H
#define SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "sink/output.h"
#include "surtitle.h"

enum { SINK_CUE_WIDTH = 42, SINK_CUE_ROWS = 2, SINK_CUE_HOLD_SAMPLES = SUR_RATE * 3 / 2, SINK_SKIPPED_BYTES = 48 };

/* What is known before the first event. The strings are the caller's, valid during the call. */
struct sink_start {
    const char *model;   /* path */
    const char *backend; /* "cpu", "cuda" */
    const char *wall;    /* ISO 8601 time of the first sample */
    int delay_ms, rate;
};

/* The microphone was lost or is back. */
struct sink_device {
    const char *name;
    bool lost; /* false: it is back */
    int64_t t;
};

struct sink_options {
    int width;              /* columns of a line; 0: no wrapping */
    bool timestamps;        /* text: a time before each line */
    bool show_alternatives; /* show tokens whose probability is at least (1 - cutoff) times that of the best token */
    float cutoff;
};

struct sink;

/* A format. All functions but `event` may be NULL. */
struct sink_class {
    const char *name;
    size_t size; /* bytes of the sink's struct, whose first member is struct sink */
    int (*start)(struct sink *sink, const struct sink_start *start);
    int (*event)(struct sink *sink, const struct sur_event *event);
    int (*device)(struct sink *sink, const struct sink_device *device);
    int (*rest)(struct sink *sink);
    int (*tick)(struct sink *sink, int64_t now_ns);
    void (*destroy)(struct sink *sink); /* releases what the sink owns beside its struct */
};

struct sink {
    const struct sink_class *class;
    struct output *out; /* the caller's, must stay open until sink_destroy; NULL for the caption file */
    struct sink_options options;
};

/* format: "text", "jsonl", "srt", "vtt" or "tokens". On failure *sink is NULL. */
int sink_create(struct sink **sink, const char *format, struct output *out, const struct sink_options *options);
/* Creates a sink for a file that always holds the captions on screen. The file is replaced whole at every change; it is
 * empty after 4 s without text, at the end, and from this call on. options.width 0: 42 columns. One per process. */
int sink_create_caption_file(struct sink **sink, const char *path, const struct sink_options *options);
/* Empties the caption file if one is open, for a program that ends at once. Async-signal-safe. */
void sink_caption_file_abandon(void);
void sink_destroy(struct sink **sink);
/* Called once, before the events. */
int sink_start(struct sink *sink, const struct sink_start *start);
int sink_event(struct sink *sink, const struct sur_event *event);
int sink_device(struct sink *sink, const struct sink_device *device);
/* The source has stopped. No event follows until it continues, and then a skip comes first. */
int sink_rest(struct sink *sink);
/* Called several times per second, also while there are no events. now_ns: sur_clock_ns(). */
int sink_tick(struct sink *sink, int64_t now_ns);

/* ---- for the formats ---- */

/* Returns whether an alternative is shown: it has text and is probable enough. */
bool sink_shows_alternative(const struct sink_options *options, const struct sur_alternative *alternative);
/* Appends "HH:MM:SS.mmm", with `point` instead of the ".". */
void sink_append_time(struct output *out, int64_t samples, char point);
/* Writes "[skipped 3.2 s]". */
void sink_format_skipped(char text[SINK_SKIPPED_BYTES], const struct sur_event *skip);
/* Allocates a sink, zeroed after struct sink. SUR_ERR_MEMORY. */
int sink_allocate(struct sink **sink, const struct sink_class *class, struct output *out,
                  const struct sink_options *options);

extern const struct sink_class sink_text, sink_jsonl, sink_srt, sink_vtt, sink_tokens;

#endif
