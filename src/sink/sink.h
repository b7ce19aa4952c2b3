/* A sink writes what a session says, in one format. Main thread only.
 *
 * Every call returns SUR_OK, OUTPUT_CLOSED (its reader has gone: destroy it, it is no failure), or SUR_ERR_IO or
 * SUR_ERR_MEMORY with a line. Text in events is clean UTF-8 (surtitle.h). */
#ifndef SINK_H
#define SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "sink/output.h"
#include "surtitle.h"

enum { SINK_CUE_WIDTH = 42, SINK_CUE_ROWS = 2, SINK_CUE_HOLD_SAMPLES = SUR_RATE * 3 / 2, SINK_SKIPPED_BYTES = 48 };

/* What is known before the first event; strings are the caller's, for the call. */
struct sink_start {
    const char *model;   /* folder */
    const char *backend; /* "cpu", "cuda" */
    const char *wall;    /* ISO 8601 time of the first sample */
    int delay_ms, rate;
};

/* What becomes of the microphone; t: 16 kHz samples since the first one. */
struct sink_device {
    const char *name;
    bool lost; /* else it is back */
    int64_t t;
};

struct sink_options {
    int width;       /* columns of a line; 0: no wrapping */
    bool timestamps; /* text: a time before each line */
    bool show_alternatives;
    float cutoff; /* runners-up of at least (1 - cutoff) of the best's probability are shown */
};

struct sink;

struct sink_class {
    const char *name;
    size_t size; /* bytes of the sink's struct, which begins with struct sink */
    int (*start)(struct sink *sink, const struct sink_start *start); /* once, before the events; may be NULL */
    int (*event)(struct sink *sink, const struct sur_event *event);
    int (*device)(struct sink *sink, const struct sink_device *device); /* may be NULL */
    int (*rest)(struct sink *sink);                                     /* may be NULL */
    int (*tick)(struct sink *sink, int64_t now_ns);                     /* time passes without events; may be NULL */
    void (*destroy)(struct sink *sink);                                 /* may be NULL */
};

struct sink {
    const struct sink_class *class;
    struct output *out; /* the caller's, open as long as the sink; NULL for the caption file */
    struct sink_options options;
};

/* format: "text", "jsonl", "srt", "vtt" or "tokens". */
int sink_create(struct sink **sink, const char *format, struct output *out, const struct sink_options *options);
/* A file that always holds the caption on screen: replaced whole at every change, empty after 4 s without text and at
 * the end. options.width 0: 42 columns. The file is made, or emptied, now. One
 * at a time. */
int sink_create_caption_file(struct sink **sink, const char *path, const struct sink_options *options);
/* Empties the file of the sink that lives, if any; safe in a signal handler, and for a program that ends now. */
void sink_caption_file_abandon(void);
void sink_destroy(struct sink **sink);
int sink_start(struct sink *sink, const struct sink_start *start);
int sink_event(struct sink *sink, const struct sur_event *event);
int sink_device(struct sink *sink, const struct sink_device *device);
/* The source stands still: no event comes until it goes on, and then a skip comes first. */
int sink_rest(struct sink *sink);
int sink_tick(struct sink *sink, int64_t now_ns); /* now: sur_clock_ns() */

/* Whether a runner-up is shown: text, and probable enough. */
bool sink_shows_alternative(const struct sink_options *options, const struct sur_alternative *alternative);
/* HH:MM:SS and milliseconds after `point`. */
void sink_append_time(struct output *out, int64_t samples, char point);
/* "[skipped 3.2 s]" */
void sink_format_skipped(char text[SINK_SKIPPED_BYTES], const struct sur_event *skip);
/* Allocates a zeroed sink of a class; for the classes' own create calls. */
int sink_allocate(struct sink **sink, const struct sink_class *class, struct output *out,
                  const struct sink_options *options);

extern const struct sink_class sink_text, sink_jsonl, sink_srt, sink_vtt, sink_tokens;

#endif
