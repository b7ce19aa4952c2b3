/* The command line, one word per line; the first byte says whether there is an emulator. Accepted options must be
 * within the bounds that the program relies on, without a message; a refusal must be one line. */
#include <getopt.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/message.h"
#include "cli/options.h"
#include "overlay/vt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_WORDS = 64 };

static int n_messages;
static bool has_emulator;

bool vt_exists(void)
{
    return has_emulator;
}

/* Stands for cli/message.c: a fuzzer must not fill a terminal. */
void message_error(const char *format, ...)
{
    char line[4096];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 1) abort();
    n_messages++;
}

static void require(int truth, const char *what)
{
    if (truth) return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static bool is_word(char *const *argv, const char *text)
{
    for (; *argv; argv++)
        if (text >= *argv && text <= *argv + strlen(*argv)) return true;
    return false;
}

static int n_choices(const struct option_spec *spec)
{
    int n = 1;
    for (const char *c = spec->value; *c; c++) n += *c == '|';
    return n;
}

static void check_field(const struct options *o, const struct option_spec *spec, char *const *argv)
{
    const void *field = (const char *)o + spec->offset;
    int number;
    float fraction;
    const char *text;
    switch (spec->kind) {
    case OPTION_FLAG:
        return;
    case OPTION_TEXT:
        memcpy(&text, field, sizeof text);
        require(!text || (*text && is_word(argv, text)), "a text that is no word");
        return;
    case OPTION_NUMBER:
        memcpy(&fraction, field, sizeof fraction);
        require(fraction == (spec->offset == offsetof(struct options, alternatives) ? -1.0f : 0.0f) ||
                    (fraction >= (float)spec->min && fraction <= (float)spec->max),
                "a number out of range");
        return;
    default:
        memcpy(&number, field, sizeof number);
    }
    if (spec->kind == OPTION_CHOICE) require(number >= 0 && number < spec->min + n_choices(spec), "no choice");
    if (spec->kind == OPTION_INTEGER)
        require(number == (spec->offset == offsetof(struct options, gpu) ? -1 : 0) ||
                    (number >= spec->min && number <= spec->max),
                "an integer out of range");
    if (spec->kind == OPTION_DELAY)
        require(number >= 0 && number % 80 == 0 && (number <= 1200 || number == 2400), "no delay");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *argv[MAX_WORDS + 1];
    int argc = 0;
    if (size < 1) return 0;
    has_emulator = data[0] & 1;
    char *text = strndup((const char *)data + 1, size - 1), *rest = text; /* no word holds a NUL */
    char name[] = "surtitle";
    argv[argc++] = name;
    while (rest && argc < MAX_WORDS) argv[argc++] = strsep(&rest, "\n");
    argv[argc] = NULL;

    struct options o;
    n_messages = 0;
    optind = 0; /* glibc: begin anew */
    int status = options_parse(&o, argc, argv);
    require(status == SUR_OK ? n_messages == 0 : status == SUR_ERR_ARGUMENT && n_messages == 1, "not one line");
    if (status == SUR_OK) {
        for (size_t i = 0; i < options_count; i++) check_field(&o, &options_table[i], argv);
        require(!o.source || is_word(argv, o.source), "a source that is no word");
        require(!o.command || (has_emulator && o.command[0] && o.command[0][0]), "an empty command");
        require(o.log_level >= SUR_LOG_ERROR && o.log_level <= SUR_LOG_DEBUG, "no log level");
    }
    free(text);
    return 0;
}
