#include "cli/options.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/message.h"
#include "overlay/vt.h"

#define AT(field) offsetof(struct options, field)

enum { MAX_OPTIONS = 40 };

const char *const options_formats[] = {"text", "jsonl", "srt", "vtt", "tokens"};

const struct option_spec options_table[] = {
    {"Model", "model", "PATH", "folder in Mistral's layout, or GGUF file (see below)", OPTION_TEXT, AT(model), 0, 0},
    {NULL, "backend", "auto|cuda|cpu", "where it runs (auto: the first that can)", OPTION_CHOICE, AT(backend),
     SUR_BACKEND_AUTO, 0},
    {NULL, "encode-on", "cuda|cpu", "only its encoder, to find a fault", OPTION_CHOICE, AT(encode_on), SUR_BACKEND_CUDA,
     0},
    {NULL, "decode-on", "cuda|cpu", "only its decoder", OPTION_CHOICE, AT(decode_on), SUR_BACKEND_CUDA, 0},
    {NULL, "kv", "fp16|fp32", "how keys and values are kept (fp16)", OPTION_CHOICE, AT(kv), SUR_KV_FP16, 0},
    {NULL, "gemm", "own|lt|blas", "who multiplies matrices (own)", OPTION_CHOICE, AT(gemm), SUR_GEMM_OWN, 0},
    {NULL, "window-attention", "own|gemm", "who attends in long passes; CUDA (own)", OPTION_CHOICE,
     AT(window_attention), SUR_ATTENTION_OWN, 0},
    {NULL, "gpu", "N", "which GPU, 0 to 63 (the most free memory)", OPTION_INTEGER, AT(gpu), 0, 63},
    {NULL, "vram-limit", "MIB", "memory of the card to use, 1 to 1048576 (all)", OPTION_INTEGER, AT(vram_limit), 1,
     1048576},
    {NULL, "threads", "N", "CPU workers (its cores, at most 16)", OPTION_INTEGER, AT(threads), 1, 256},
    {NULL, "cpu", "plain|avx2|avx512", "instruction set (the best there is)", OPTION_CHOICE, AT(cpu), SUR_CPU_PLAIN, 0},
    {NULL, "delay", "MS", "80 to 1200 by 80, or 2400 (the model's)", OPTION_DELAY, AT(delay_ms), 0, 0},
    {NULL, "force", "FILE", "feed back these token ids, one a line", OPTION_TEXT, AT(force), 0, 0},

    {"Input", "device", "NAME|INDEX", "the microphone, by a part of its name (the default)", OPTION_TEXT, AT(device), 0,
     0},
    {NULL, "list-devices", NULL, "list the microphones", OPTION_FLAG, AT(list_devices), 0, 0},
    {NULL, "pcm", "s16le|f32le|u8|s24le|s32le|s16be|mulaw|alaw", "raw samples, whatever they look like", OPTION_CHOICE,
     AT(pcm), 1, 0},
    {NULL, "rate", "HZ", "of raw samples, 1000 to 768000 (16000)", OPTION_INTEGER, AT(rate), 1000, 768000},
    {NULL, "channels", "N", "of raw samples, 1 to 64 (1)", OPTION_INTEGER, AT(channels), 1, 64},
    {NULL, "channel", "N", "take this one, 1 to 64 (those with sound)", OPTION_INTEGER, AT(channel), 1, 64},
    {NULL, "pace", NULL, "read a file at the speed of speech", OPTION_FLAG, AT(pace), 0, 0},
    {NULL, "max-lag", "SECONDS", "skip when further behind, 1 to 100 (5; a pipe: never)", OPTION_NUMBER, AT(max_lag), 1,
     100},

    {"Output", "format", "text|jsonl|srt|vtt|tokens", "of the captions (text)", OPTION_CHOICE, AT(format), 0, 0},
    {NULL, "output", "FILE", "write captions there (standard output)", OPTION_TEXT, AT(output), 0, 0},
    {NULL, "caption-file", "FILE", "always holds the caption on screen, too", OPTION_TEXT, AT(caption_file), 0, 0},
    {NULL, "overlay", NULL, "subtitles in the bottom rows of the terminal", OPTION_FLAG, AT(overlay), 0, 0},
    {NULL, "width", "N", "columns, 10 to 1000 (80; piped: no limit)", OPTION_INTEGER, AT(width), 10, 1000},
    {NULL, "timestamps", NULL, "a time before each line of text", OPTION_FLAG, AT(timestamps), 0, 0},
    {NULL, "alternatives", "CUTOFF", "0 to 1: also likely words, [best|second]", OPTION_NUMBER, AT(alternatives), 0, 1},

    {"Other", "stats", NULL, "figures on standard error at the end", OPTION_FLAG, AT(stats), 0, 0},
    {NULL, "latency-report", "FILE", "JSON: how long after its sound text is out", OPTION_TEXT, AT(latency_report), 0,
     0},
    {NULL, "log-level", "error|warn|info|debug", "what to say on standard error (warn)", OPTION_CHOICE, AT(log_level),
     SUR_LOG_ERROR, 0},
    {NULL, "version", NULL, "print the version", OPTION_FLAG, AT(version), 0, 0},
    {NULL, "help", NULL, "print this", OPTION_FLAG, AT(help), 0, 0},
};
const size_t options_count = sizeof options_table / sizeof *options_table;

/* ---- values ---- */

static bool parse_choice(const struct option_spec *spec, const char *text, int *value)
{
    size_t n = strlen(text);
    int i = spec->min;
    for (const char *at = spec->value; *at; i++) {
        size_t length = strcspn(at, "|");
        if (length == n && memcmp(at, text, n) == 0) {
            *value = i;
            return true;
        }
        at += length + (at[length] == '|');
    }
    return false;
}

/* Digits and nothing else. */
static bool parse_integer(const char *text, int *value)
{
    size_t n = strlen(text);
    if (n == 0 || n > 9 || strspn(text, "0123456789") != n) return false;
    *value = (int)strtol(text, NULL, 10);
    return true;
}

static bool parse_number(const char *text, float *value, int min, int max)
{
    size_t n = strlen(text);
    char *end;
    if (n == 0 || n > 32 || strspn(text, "0123456789.eE-") != n || text[0] == '-') return false;
    double d = strtod(text, &end);
    *value = (float)d;
    return *end == 0 && isfinite(d) && d >= min && d <= max;
}

static int refuse(const struct option_spec *spec, const char *text)
{
    char range[64];
    switch (spec->kind) {
    case OPTION_INTEGER:
        snprintf(range, sizeof range, "a whole number, %d to %d", spec->min, spec->max);
        break;
    case OPTION_DELAY:
        snprintf(range, sizeof range, "80 to 1200 in steps of 80, or 2400");
        break;
    case OPTION_NUMBER:
        snprintf(range, sizeof range, "a number from %d to %d", spec->min, spec->max);
        break;
    default:
        snprintf(range, sizeof range, "%s", spec->value);
    }
    if (text)
        message_error("--%s takes %s, not '%.100s'", spec->name, range, text);
    else
        message_error("--%s needs a value: %s", spec->name, range);
    return SUR_ERR_ARGUMENT;
}

static int set(struct options *options, const struct option_spec *spec, const char *text)
{
    void *field = (char *)options + spec->offset;
    int number;
    float fraction;
    switch (spec->kind) {
    case OPTION_FLAG:
        *(bool *)field = true;
        return SUR_OK;
    case OPTION_TEXT:
        if (!*text) return refuse(spec, text);
        *(const char **)field = text;
        return SUR_OK;
    case OPTION_CHOICE:
        if (!parse_choice(spec, text, &number)) return refuse(spec, text);
        break;
    case OPTION_INTEGER:
        if (!parse_integer(text, &number) || number < spec->min || number > spec->max) return refuse(spec, text);
        break;
    case OPTION_DELAY:
        if (!parse_integer(text, &number) || sur_delay_check(number) != SUR_OK) return refuse(spec, text);
        break;
    case OPTION_NUMBER:
        if (!parse_number(text, &fraction, spec->min, spec->max)) return refuse(spec, text);
        *(float *)field = fraction;
        return SUR_OK;
    default:
        return SUR_ERR_ARGUMENT;
    }
    *(int *)field = number;
    return SUR_OK;
}

/* ---- parsing ---- */

static void make_long_options(struct option *longs)
{
    for (size_t i = 0; i < options_count; i++)
        longs[i] = (struct option){options_table[i].name, options_table[i].value ? required_argument : no_argument,
                                   NULL, 256 + (int)i};
    longs[options_count] = (struct option){NULL, 0, NULL, 0};
}

static const struct option_spec *find(const char *word)
{
    size_t n = strcspn(word, "=");
    for (size_t i = 0; i < options_count; i++)
        if (strlen(options_table[i].name) == n && memcmp(options_table[i].name, word, n) == 0) return &options_table[i];
    return NULL;
}

/* getopt said no to this word: why? */
static int explain(const char *word)
{
    const struct option_spec *spec = strncmp(word, "--", 2) == 0 ? find(word + 2) : NULL;
    if (spec && spec->value) return refuse(spec, NULL);
    if (spec)
        message_error("--%s takes no value", spec->name);
    else
        message_error("there is no option %.*s: --help lists what there is", (int)strcspn(word, "="), word);
    return SUR_ERR_ARGUMENT;
}

/* What stands after the first "--". */
static int set_command(struct options *options, char *const *words)
{
    if (!words[0] || !words[0][0]) {
        message_error("-- begins the command to run under captions: -- CMD [ARG...]");
        return SUR_ERR_ARGUMENT;
    }
    if (!vt_exists()) {
        message_error("-- CMD: this build was made without libvterm, which it needs");
        return SUR_ERR_ARGUMENT;
    }
    options->command = words;
    return SUR_OK;
}

int options_parse(struct options *options, int argc, char **argv)
{
    struct option longs[MAX_OPTIONS];
    _Static_assert(sizeof options_table / sizeof *options_table < MAX_OPTIONS, "MAX_OPTIONS is too small");
    *options = (struct options){.log_level = SUR_LOG_WARN, .alternatives = -1, .gpu = -1};
    make_long_options(longs);
    opterr = 0;
    for (;;) {
        const char *word = optind < argc ? argv[optind] : NULL;
        /* "-": words that are no options come in their order, as 1; ":": a missing value is told from an unknown name
         */
        int c = getopt_long(argc, argv, "-:", longs, NULL);
        if (c == -1) return word && strcmp(word, "--") == 0 ? set_command(options, argv + optind) : SUR_OK;
        if (c == 1) {
            if (options->source) {
                message_error("one SOURCE at most: '%.100s' and '%.100s' are two", options->source, optarg);
                return SUR_ERR_ARGUMENT;
            }
            options->source = optarg;
        } else if (c < 256 ||
                   !find(word + 2)) { /* abbreviations are refused: they would change with every new option */
            return explain(word);
        } else if (set(options, &options_table[c - 256], optarg) != SUR_OK) {
            return SUR_ERR_ARGUMENT;
        }
    }
}

/* ---- --help ---- */

char *options_help(void)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    fprintf(f, "surtitle: captions while somebody speaks\n\n"
               "usage: surtitle [OPTION...] [SOURCE] [-- CMD [ARG...]]\n"
               "       SOURCE: FILE, - for standard input; none: the microphone\n"
               "       CMD runs under captions, as with --overlay\n");
    for (size_t i = 0; i < options_count; i++) {
        const struct option_spec *spec = &options_table[i];
        char left[64];
        if (spec->group) fprintf(f, "\n%s\n", spec->group);
        snprintf(left, sizeof left, "--%s%s%s", spec->name, spec->value ? " " : "", spec->value ? spec->value : "");
        fprintf(f, "  %-34s %s\n", left, spec->help);
    }
    fprintf(f, "\nWithout --model: $XDG_DATA_HOME/surtitle/model (~/.local/share), then $XDG_DATA_DIRS,\n"
               "then the demo model. Standard input is a WAV or raw samples.\n"
               "Exit: 0 done, 1 failed, 2 usage, 3 no microphone, 4 no model, 5 no backend.\n");
    if (fclose(f) == 0) return text;
    free(text);
    return NULL;
}
