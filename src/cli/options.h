/* The command line: one table for parsing, usage errors and --help. A test compares it with the man page. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "surtitle.h"

struct options {
    const char *source; /* FILE, "-", or NULL for the microphone */
    const char *model, *force, *output, *caption_file, *latency_report, *device, *cpu; /* NULL: not given */
    int backend, encode_on, decode_on, kv, gemm, window_attention;                     /* the library's enums */
    int delay_ms, threads, vram_limit;                                                 /* 0: not given */
    int gpu;                                                                           /* -1: not given */
    int pcm, rate, channels; /* pcm: enum source_pcm; 0: not given */
    int channel;             /* from 1; 0: not given */
    int format;              /* index into options_formats */
    int width;               /* 0: not given */
    char *const *command;    /* the words after --, NULL-terminated; NULL: none */
    int log_level;
    float alternatives; /* the cutoff; negative: not given */
    float max_lag;      /* seconds; 0: not given */
    bool overlay, pace, timestamps, stats, list_devices, quiet /* log_level is then SUR_LOG_ERROR */;
    bool version, help, help_all;
};

extern const char *const options_formats[]; /* "text", ... */

enum { OPTIONS_MAX_LAG = 5 }; /* seconds, where --max-lag is not given */

enum option_kind { OPTION_FLAG, OPTION_TEXT, OPTION_CHOICE, OPTION_INTEGER, OPTION_DELAY, OPTION_CPU, OPTION_NUMBER };

struct option_spec {
    const char *group; /* heading of the first option of a group, else NULL */
    char letter;       /* of the short form; 0: none */
    const char *name;  /* without -- */
    const char *value; /* "DIR"; for a choice "auto|cuda|cpu", in the order of its enum; NULL: a flag */
    const char *help;  /* with the default in parentheses */
    enum option_kind kind;
    size_t offset; /* into struct options */
    int min, max;  /* integer, number: its range; choice: min is the first one's value */
};

extern const struct option_spec options_table[];
extern const size_t options_count;

/* SUR_OK, or SUR_ERR_ARGUMENT after one line on standard error. Strings point into argv. */
int options_parse(struct options *options, int argc, char **argv);
/* The text of --help, or with `all` of --help-all; the caller frees it. NULL: no memory. */
char *options_help(bool all);

#endif
