/* surtitle-quantize: reads a checkpoint and writes its weights, with fewer bits, to a GGUF file. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/checkpoint.h"
#include "model/gguf.h"
#include "quantize/os_output.h"
#include "quantize/plan.h"
#include "quantize/work.h"
#include "util/error.h"
#include "util/log.h"
#include "util/os_file.h"
#include "util/utf8.h"

enum { DONE = 0, FAILED = 1, USAGE = 2, NO_MODEL = 4, MAX_THREADS = 1024 };

struct arguments {
    const char *in, *out;
    const struct preset *preset;
    int threads; /* 0: one per core */
};

static void say(const char *text)
{
    char clean[700];
    sur_utf8_clean(clean, sizeof clean, text, strlen(text));
    fprintf(stderr, "surtitle-quantize: %s\n", clean);
}

static void on_log(void *user, enum sur_log_level level, const char *line)
{
    (void)user;
    (void)level;
    say(line);
}

static int usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int usage(const char *format, ...)
{
    char line[600];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    say(line);
    return USAGE;
}

static void help(void)
{
    printf("surtitle-quantize: write a model's weights as GGUF, with fewer bits\n\n"
           "usage: surtitle-quantize [OPTION...] --type TYPE IN OUT.gguf\n"
           "  IN is a folder in Mistral's layout, or a GGUF file of BF16, F16 or F32.\n\n"
           "      --type TYPE    weight types: %s\n"
           "      --threads N    CPU threads, 1 to 1024 (one per core)\n"
           "  -h, --help         print this help\n"
           "  -V, --version      print the version\n\n"
           "Exit status: 0 success, 1 writing failed, 2 wrong usage, 4 IN cannot be used.\n",
           preset_names());
}

/* Returns -1, or the exit status if the program is to end. */
static int parse(int argc, char **argv, struct arguments *a)
{
    static const struct option options[] = {{"type", required_argument, NULL, 't'},
                                            {"threads", required_argument, NULL, 'n'},
                                            {"help", no_argument, NULL, 'h'},
                                            {"version", no_argument, NULL, 'V'},
                                            {NULL, 0, NULL, 0}};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":hV", options, NULL)) != -1;) {
        char *end;
        long n;
        switch (c) {
        case 't':
            if (!(a->preset = preset_find(optarg))) return usage("--type %.100s: one of %s", optarg, preset_names());
            break;
        case 'n':
            n = strtol(optarg, &end, 10);
            if (end == optarg || *end || n < 1 || n > MAX_THREADS)
                return usage("--threads %.100s: a whole number from 1 to 1024", optarg);
            a->threads = (int)n;
            break;
        case 'h':
            help();
            return fflush(stdout) || ferror(stdout) ? FAILED : DONE;
        case 'V':
            printf("surtitle-quantize %s\n", SUR_VERSION);
            return fflush(stdout) || ferror(stdout) ? FAILED : DONE;
        case ':':
            return usage("%.100s: needs a value", argv[optind - 1]);
        default:
            return usage("%.100s: there is no such option; see --help", argv[optind - 1]);
        }
    }
    if (argc - optind != 2) return usage("needs IN and OUT.gguf; see --help");
    if (!a->preset) return usage("needs --type: one of %s", preset_names());
    a->in = argv[optind];
    a->out = argv[optind + 1];
    return -1;
}

static int cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? (int)sysconf(_SC_NPROCESSORS_ONLN) : CPU_COUNT(&set);
    return n < 1 ? 1 : n > MAX_THREADS ? MAX_THREADS : n;
}

static void show_progress(void *user, uint64_t done, uint64_t all)
{
    (void)user;
    fprintf(stderr, "\rsurtitle-quantize: %3d%% of %.2f GB", all ? (int)(done * 100 / all) : 100, (double)all * 1e-9);
}

/* Refuses weights that are quantised already: they would lose precision a second time. */
static int check_source(const struct sur_checkpoint *c)
{
    const unsigned plain = 1u << SUR_WEIGHT_BF16 | 1u << SUR_WEIGHT_F16 | 1u << SUR_WEIGHT_F32;
    if (sur_checkpoint_need(c, plain, "") == SUR_OK) return SUR_OK;
    return sur_fail(SUR_ERR_MODEL, "%s is quantised already (%s): use the BF16 file or Mistral's folder",
                    sur_gguf_name(c->gguf), sur_checkpoint_type(c));
}

static int fail_file(const char *path, const char *why)
{
    char line[700];
    snprintf(line, sizeof line, "%.400s: %s", path, why);
    say(line);
    return FAILED;
}

static int write_file(const struct arguments *a, const struct plan *plan)
{
    bool terminal = isatty(STDERR_FILENO);
    int fd = os_output_create(a->out, plan->n_bytes);
    if (fd < 0) return fail_file(a->out, strerror(errno));
    int rc = work_run(plan, fd, a->threads ? a->threads : cores(), terminal ? show_progress : NULL, NULL);
    if (terminal) fputc('\n', stderr);
    if (!os_output_close(fd, rc == SUR_OK) && rc == SUR_OK) rc = sur_fail(SUR_ERR_IO, "%s", strerror(errno));
    if (rc == SUR_OK) return DONE;
    fail_file(rc == SUR_ERR_MODEL ? a->in : a->out, sur_error_text());
    return rc == SUR_ERR_MODEL ? NO_MODEL : FAILED;
}

/* Returns whether OUT.gguf is IN, or a file that is read from the folder IN. */
static bool is_source(const struct arguments *a)
{
    static const char *const files[] = {"", "/params.json", "/tekken.json", "/consolidated.safetensors"};
    struct os_file in, out;
    if (!os_file_find(&out, a->out) || out.kind != OS_FILE_EXISTS) return false;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s%s", a->in, files[i]) < (int)sizeof path && os_file_find(&in, path) &&
            os_file_same(&in, &out))
            return true;
    }
    return false;
}

static int quantise(const struct arguments *a)
{
    struct sur_checkpoint *c = NULL;
    struct plan plan = {.n_tensors = 0};
    if (is_source(a)) return usage("%.400s: IN, or a file of IN, and OUT.gguf are the same file", a->out);
    int rc = sur_checkpoint_open(&c, a->in), status = FAILED;
    if (rc == SUR_OK) rc = check_source(c);
    if (rc == SUR_OK) rc = plan_make(&plan, c, a->preset);
    if (rc == SUR_OK)
        status = write_file(a, &plan);
    else
        say(sur_error_text());
    plan_finish(&plan);
    sur_checkpoint_close(&c);
    return rc == SUR_ERR_MODEL ? NO_MODEL : status;
}

int main(int argc, char **argv)
{
    struct arguments a = {.threads = 0};
    int status = parse(argc, argv, &a);
    if (status >= 0) return status;
    sur_set_log(SUR_LOG_WARN, on_log, NULL);
    os_output_catch_faults(NO_MODEL);
    return quantise(&a);
}
