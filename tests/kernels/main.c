/* kernel_check: every kernel against its plain reference, or (--bench) its time as a share of the bandwidth.
 *
 * Exit status: 0 all passed, 1 something failed, 2 usage, 77 there is no GPU to run on. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checks.h"
#include "harness.h"

enum { GROUP_SECONDS = 200, NOT_LOADED = 78 };

struct group {
    const char *name;
    void (*run)(int argument);
    int argument;
};

static const struct group groups[] = {
    {"skinny kernels", check_skinny_names, 0},
    {"tiled kernels", check_tiled_names, 0},
    {"skinny special", check_skinny, -1},
    {"skinny gelu", check_skinny, SUR_GPU_GELU},
    {"skinny add", check_skinny, SUR_GPU_ADD},
    {"skinny swiglu", check_skinny, SUR_GPU_SWIGLU},
    {"skinny qkv", check_skinny, SUR_GPU_QKV},
    {"skinny rows", check_skinny, SUR_GPU_ROWS},
    {"skinny head", check_skinny, SUR_GPU_HEAD},
    {"split", check_split, 0},
    {"tiled special", check_tiled, -1},
    {"tiled gelu", check_tiled, SUR_GPU_GELU},
    {"tiled add", check_tiled, SUR_GPU_ADD},
    {"tiled swiglu", check_tiled, SUR_GPU_SWIGLU},
    {"tiled qkv", check_tiled, SUR_GPU_QKV},
    {"tiled rows", check_tiled, SUR_GPU_ROWS},
    {"attention", check_attend, 0},
    {"overlap", check_overlap, 0},
    {"small kernels", check_small, 0},
    {"products of libraries", check_gemm, 0},
};

struct arguments {
    bool bench, one_process;
    int fill_mib; /* above 0: only fills the card */
    char **files;
    int n_files;
};

static const char usage[] =
    "usage: kernel_check [--only TEXT] [--small] [--list] [--one-process] [--bench] FATBIN...\n"
    "  --only TEXT    only checks whose line (kernel, shape) holds TEXT\n"
    "  --small        only small shapes: for an emulated GPU\n"
    "  --list         the checks by name; nothing is run\n"
    "  --one-process  no process of its own for each group: for compute-sanitizer\n"
    "  --bench        no checks: times each kernel at full size, as a share of the bandwidth\n"
    "  --fill MIB     no checks: takes the card's memory but for MIB, says so, and keeps it until standard input "
    "ends\n";

void checks_need(const char *kernel)
{
    if (report_list || (report_only && !strstr(kernel, report_only))) return;
    if (!kernel_find(kernel)) report_missing(kernel);
}

static int run_group(const struct group *g, const struct arguments *a)
{
    if (report_list) return g->run(g->argument), 0;
    int r = device_open();
    if (!r) r = kernels_load(a->files, a->n_files) ? NOT_LOADED : 0;
    if (r) return r;
    g->run(g->argument);
    device_close();
    return 0;
}

/* Returns 0, 77, NOT_LOADED, or 1 if the process ended early, which counts as one failure. */
static int run_apart(const struct group *g, const struct arguments *a)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(GROUP_SECONDS);
        _exit(run_group(g, a) | (fflush(stdout) ? 1 : 0));
    }
    if (child < 0 || waitpid(child, &status, 0) != child) return 1;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (code == 0 || code == 77 || code == NOT_LOADED) return code;
    const char *how = code >= 0                     ? text("exit status %d", code)
                      : WTERMSIG(status) == SIGALRM ? text("no end after %d s", GROUP_SECONDS)
                                                    : text("signal %d", WTERMSIG(status));
    printf("FAIL %s: ended early: %s\n", g->name, how);
    tally->failed++;
    return 1;
}

static int run_checks(const struct arguments *a)
{
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        int r = a->one_process || report_list ? run_group(&groups[i], a) : run_apart(&groups[i], a);
        if (r == 77) return 77;
        if (r == NOT_LOADED || (r && a->one_process)) return 1;
    }
    if (report_list) return 0;
    printf("%d passed, %d failed, %d skipped\n", tally->passed, tally->failed, tally->skipped);
    return tally->failed || !tally->passed;
}

static int parse(struct arguments *a, int argc, char **argv)
{
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "--only") && i + 1 < argc)
            report_only = argv[++i];
        else if (!strcmp(argv[i], "--fill") && i + 1 < argc && atoi(argv[i + 1]) > 0)
            a->fill_mib = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--small"))
            report_only_small = true;
        else if (!strcmp(argv[i], "--list"))
            report_list = true;
        else if (!strcmp(argv[i], "--one-process"))
            a->one_process = true;
        else if (!strcmp(argv[i], "--bench"))
            a->bench = true;
        else
            return -1;
    }
    a->files = argv + i;
    a->n_files = argc - i;
    return a->n_files > 0 || report_list || a->fill_mib ? 0 : -1;
}

/* For check_faults.py: occupies the memory of the card. */
static int fill(int left_mib)
{
    size_t free_bytes = 0, all = 0, left = (size_t)left_mib << 20;
    int r = device_open();
    if (r) return r;
    CU(cu.cuMemGetInfo(&free_bytes, &all));
    for (size_t piece = (size_t)1 << 34; piece >= 1 << 20; piece /= 2) {
        CUdeviceptr p;
        while (free_bytes >= left + piece && cu.cuMemAlloc(&p, piece) == CUDA_SUCCESS)
            CU(cu.cuMemGetInfo(&free_bytes, &all));
    }
    printf("filled: %zu MiB are free\n", free_bytes >> 20);
    fflush(stdout);
    while (getchar() != EOF) {}
    return 0;
}

int main(int argc, char **argv)
{
    struct arguments a = {0};
    if (parse(&a, argc, argv)) return fputs(usage, stderr), 2;
    tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (tally == MAP_FAILED) return perror("kernel_check"), 1;
    if (a.fill_mib) return fill(a.fill_mib);
    if (!a.bench) return run_checks(&a);
    int r = device_open();
    if (!r) r = kernels_load(a.files, a.n_files) ? 1 : 0;
    if (!r) r = bench();
    return r;
}
