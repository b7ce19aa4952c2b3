#include "cli/options.h"

#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/message.h"
#include "overlay/vt.h"

#define AT(field) offsetof(struct options, field)

enum { LONG_OPTION = 256 /* what getopt_long returns for the first option in its long form */ };
enum { MAX_OPTIONS = 48, HELP_COLUMN = 31, HELP_COLUMNS = 80 };

static const char options_troubleshooting[] = "Troubleshooting"; /* the group that --help leaves out */

const char *const options_formats[] = {"text", "jsonl", "srt", "vtt", "tokens"};

const struct option_spec options_table[] = {
    {"Microphone", 'd', "device", "NAME|INDEX", "name, part of it, or index (system default)", OPTION_TEXT, AT(device),
     0, 0},
    {NULL, 0, "list-devices", NULL, "list the microphones", OPTION_FLAG, AT(list_devices), 0, 0},
    {NULL, 0, "max-lag", "SECONDS", "skip audio if behind, 1 to 100 (5; pipe: never)", OPTION_NUMBER, AT(max_lag), 1,
     100},

    {"Files and pipes", 0, "pace", NULL, "read a file at the speed of speech", OPTION_FLAG, AT(pace), 0, 0},
    {NULL, 0, "channel", "N", "use one channel, 1 to 64 (all that carry sound)", OPTION_INTEGER, AT(channel), 1,
     SUR_CHANNELS_MAX},
    {NULL, 0, "pcm", "s16le|f32le|u8|s24le|s32le|s16be|mulaw|alaw", "treat the source as raw PCM; no format detection",
     OPTION_CHOICE, AT(pcm), 1, 0},
    {NULL, 0, "rate", "HZ", "sample rate of raw PCM, 1000 to 768000 (16000)", OPTION_INTEGER, AT(rate), SUR_RATE_MIN,
     SUR_RATE_MAX},
    {NULL, 0, "channels", "N", "channels of raw PCM, 1 to 64 (1)", OPTION_INTEGER, AT(channels), 1, SUR_CHANNELS_MAX},

    {"Captions", 'f', "format", "text|jsonl|srt|vtt|tokens", "output format (text)", OPTION_CHOICE, AT(format), 0, 0},
    {NULL, 'o', "output", "FILE", "write captions to FILE (standard output)", OPTION_TEXT, AT(output), 0, 0},
    {NULL, 0, "caption-file", "FILE", "keep the current caption in FILE, e.g. for OBS", OPTION_TEXT, AT(caption_file),
     0, 0},
    {NULL, 0, "overlay", NULL, "show captions in the bottom rows of the terminal", OPTION_FLAG, AT(overlay), 0, 0},
    {NULL, 0, "delay", "MS", "80 to 1200 in steps of 80, or 2400 (the model's)", OPTION_DELAY, AT(delay_ms), 0, 0},
    {NULL, 0, "width", "N", "columns per line, 10 to 1000 (80; pipe: no limit)", OPTION_INTEGER, AT(width), 10, 1000},
    {NULL, 0, "timestamps", NULL, "start each line of text with its time", OPTION_FLAG, AT(timestamps), 0, 0},
    {NULL, 0, "alternatives", "CUTOFF", "0 to 1: show close alternatives, [best|second]", OPTION_NUMBER,
     AT(alternatives), 0, 1},

    {"Model", 'm', "model", "PATH", "Mistral folder or GGUF file (see below)", OPTION_TEXT, AT(model), 0, 0},
    {NULL, 0, "backend", "auto|cuda|cpu", "where to compute (auto: the first that works)", OPTION_CHOICE, AT(backend),
     SUR_BACKEND_AUTO, 0},
    {NULL, 0, "gpu", "N", "GPU number, 0 to 63 (most free memory)", OPTION_INTEGER, AT(gpu), 0, 63},
    {NULL, 0, "vram-limit", "MIB", "limit of GPU memory, 1 to 1048576 (none)", OPTION_INTEGER, AT(vram_limit), 1,
     1048576},
    {NULL, 0, "threads", "N", "CPU threads, 1 to 256 (one per core, at most 16)", OPTION_INTEGER, AT(threads), 1, 256},

    {"Messages", 'q', "quiet", NULL, "print nothing but errors on standard error", OPTION_FLAG, AT(quiet), 0, 0},
    {NULL, 0, "log-level", "error|warn|info|debug", "least severe messages to print (warn)", OPTION_CHOICE,
     AT(log_level), SUR_LOG_ERROR, 0},
    {NULL, 0, "stats", NULL, "print figures on standard error at the end", OPTION_FLAG, AT(stats), 0, 0},
    {NULL, 0, "latency-report", "FILE", "write a JSON report of caption latency", OPTION_TEXT, AT(latency_report), 0,
     0},
    {NULL, 'V', "version", NULL, "print the version", OPTION_FLAG, AT(version), 0, 0},
    {NULL, 'h', "help", NULL, "print the options for daily use", OPTION_FLAG, AT(help), 0, 0},
    {NULL, 0, "help-all", NULL, "print all options", OPTION_FLAG, AT(help_all), 0, 0},

    {options_troubleshooting, 0, "cpu", "NAME",
     "CPU instruction set (the fastest that runs), if a run crashes or its text is wrong", OPTION_CPU, AT(cpu), 0, 0},
    {NULL, 0, "kv", "fp16|fp32", "precision of attention keys and values (fp16); fp32 if rounding is suspected",
     OPTION_CHOICE, AT(kv), SUR_KV_FP16, 0},
    {NULL, 0, "encode-on", "cuda|cpu", "run the encoder there, to find out whether the encoder is at fault",
     OPTION_CHOICE, AT(encode_on), SUR_BACKEND_CUDA, 0},
    {NULL, 0, "decode-on", "cuda|cpu", "run the decoder there, to find out whether the decoder is at fault",
     OPTION_CHOICE, AT(decode_on), SUR_BACKEND_CUDA, 0},
    {NULL, 0, "gemm", "own|lt|blas",
     "matrix products by surtitle, cuBLASLt or BLAS (own), if surtitle's code is suspected or to compare speed",
     OPTION_CHOICE, AT(gemm), SUR_GEMM_OWN, 0},
    {NULL, 0, "window-attention", "own|gemm",
     "attention of long CUDA passes by surtitle or cuBLAS (own), for the reasons of --gemm", OPTION_CHOICE,
     AT(window_attention), SUR_ATTENTION_OWN, 0},
    {NULL, 0, "force", "FILE", "decode these token ids, one per line, to compare two runs step by step", OPTION_TEXT,
     AT(force), 0, 0},
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
    case OPTION_CPU:
        for (int i = 0; sur_cpu_name(i); i++) {
            size_t n = i ? strlen(range) : 0;
            snprintf(range + n, sizeof range - n, "%s%s", i ? "|" : "", sur_cpu_name(i));
        }
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

static bool is_cpu(const char *text)
{
    const char *name;
    for (int i = 0; (name = sur_cpu_name(i)); i++)
        if (strcmp(name, text) == 0) return true;
    return false;
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
    case OPTION_CPU:
        if (!is_cpu(text)) return refuse(spec, text);
        *(const char **)field = text;
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

/* getopt's two descriptions of the table. Words that are no options come in their order ("-"), and a missing value is
 * told from an unknown name (":"). */
static void describe(struct option longs[MAX_OPTIONS], char shorts[2 * MAX_OPTIONS + 3])
{
    _Static_assert(sizeof options_table / sizeof *options_table < MAX_OPTIONS, "MAX_OPTIONS is too small");
    size_t n = (size_t)sprintf(shorts, "-:");
    for (size_t i = 0; i < options_count; i++) {
        const struct option_spec *spec = &options_table[i];
        longs[i] =
            (struct option){spec->name, spec->value ? required_argument : no_argument, NULL, LONG_OPTION + (int)i};
        if (spec->letter) n += (size_t)sprintf(shorts + n, spec->value ? "%c:" : "%c", spec->letter);
    }
    longs[options_count] = (struct option){NULL, 0, NULL, 0};
}

static const struct option_spec *find_long(const char *word)
{
    size_t n = strcspn(word, "=");
    for (size_t i = 0; i < options_count; i++)
        if (strlen(options_table[i].name) == n && memcmp(options_table[i].name, word, n) == 0) return &options_table[i];
    return NULL;
}

static const struct option_spec *find_letter(int letter)
{
    for (size_t i = 0; i < options_count; i++)
        if (letter && options_table[i].letter == letter) return &options_table[i];
    return NULL;
}

/* Says why getopt refused an option in this word; letter: the one refused, if the word holds short options. */
static int explain(const char *word, int letter)
{
    bool is_long = strncmp(word, "--", 2) == 0;
    const struct option_spec *spec = is_long ? find_long(word + 2) : find_letter(letter);
    if (spec && spec->value) return refuse(spec, NULL);
    if (spec)
        message_error("--%s takes no value", spec->name);
    else if (is_long)
        message_error("unknown option %.*s: see --help-all", (int)strcspn(word, "="), word);
    else
        message_error("unknown option -%c: see --help-all", letter);
    return SUR_ERR_ARGUMENT;
}

/* What stands after the first "--". */
static int set_command(struct options *options, char *const *words)
{
    if (!words[0] || !words[0][0]) {
        message_error("-- must be followed by a command: -- CMD [ARG...]");
        return SUR_ERR_ARGUMENT;
    }
    if (!vt_exists()) {
        message_error("-- CMD needs libvterm, and this build has none");
        return SUR_ERR_ARGUMENT;
    }
    options->command = words;
    return SUR_OK;
}

static int set_source(struct options *options, const char *word)
{
    if (options->source) {
        message_error("more than one SOURCE: '%.100s' and '%.100s'", options->source, word);
        return SUR_ERR_ARGUMENT;
    }
    options->source = word;
    return SUR_OK;
}

int options_parse(struct options *options, int argc, char **argv)
{
    struct option longs[MAX_OPTIONS];
    char shorts[2 * MAX_OPTIONS + 3];
    int status = SUR_OK;
    *options = (struct options){.log_level = SUR_LOG_WARN, .alternatives = -1, .gpu = -1};
    describe(longs, shorts);
    opterr = 0;
    while (status == SUR_OK) {
        const char *word = optind < argc ? argv[optind] : NULL;
        int c = getopt_long(argc, argv, shorts, longs, NULL);
        if (c == -1 && word && strcmp(word, "--") == 0) status = set_command(options, argv + optind);
        if (c == -1) break;
        /* abbreviations are refused: they would change with every new option */
        const struct option_spec *spec = c >= LONG_OPTION ? find_long(word + 2) : find_letter(c);
        if (c == 1)
            status = set_source(options, optarg);
        else
            status = spec ? set(options, spec, optarg) : explain(word, optopt);
    }
    if (options->quiet) options->log_level = SUR_LOG_ERROR;
    return status;
}

/* ---- --help ---- */

/* Words from column HELP_COLUMN on; `column`: where the line is now. */
static void put_wrapped(FILE *f, int column, const char *text)
{
    if (column > HELP_COLUMN - 2) column = fprintf(f, "\n") - 1;
    while (*text) {
        int n = (int)strcspn(text, " ");
        if (column > HELP_COLUMN && column + 1 + n > HELP_COLUMNS) column = fprintf(f, "\n") - 1;
        column += fprintf(f, "%*s%.*s", column < HELP_COLUMN ? HELP_COLUMN - column : 1, "", n, text);
        text += n + (text[n] == ' ');
    }
    fprintf(f, "\n");
}

static void put_option(FILE *f, const struct option_spec *spec)
{
    char letter[] = "    ";
    if (spec->group) fprintf(f, "\n%s\n", spec->group);
    if (spec->letter) snprintf(letter, sizeof letter, "-%c, ", spec->letter);
    int n = fprintf(f, "  %s--%s%s%s", letter, spec->name, spec->value ? " " : "", spec->value ? spec->value : "");
    put_wrapped(f, n, spec->help);
}

char *options_help(bool all)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) return NULL;
    fprintf(f, "surtitle: live captions for speech\n\n"
               "usage: surtitle [OPTION...] [SOURCE] [-- CMD [ARG...]]\n"
               "       SOURCE is a FILE, or - for standard input; without it, the microphone\n"
               "       CMD runs above the captions, as with --overlay\n");
    for (size_t i = 0; i < options_count; i++) {
        if (options_table[i].group == options_troubleshooting && !all) break;
        put_option(f, &options_table[i]);
    }
    fprintf(f, "\nWithout --model: $XDG_DATA_HOME/surtitle/model (~/.local/share), then $XDG_DATA_DIRS,\n"
               "then the demo model. Standard input is WAV or raw PCM.\n"
               "Exit status: 0 done, 1 failed, 2 usage, 3 no microphone, 4 no model, 5 no backend.\n");
    if (fclose(f) == 0) return text;
    free(text);
    return NULL;
}
