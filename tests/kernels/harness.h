/* What the checks and the bench share: the device, memory between canaries, launches, data, and the report.
 *
 * Every group of checks runs in a process of its own, so that a kernel that crashes or hangs fails only its group. */
#ifndef SUR_TESTS_KERNELS_HARNESS_H
#define SUR_TESTS_KERNELS_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "driver.h"
#include "launch.h"

/* ---- device ---- */

struct device {
    int multiprocessors, capability; /* 90 = 9.0 */
    int max_shared;                  /* bytes per thread block */
    char name[100];
    CUstream stream;
};
extern struct device device;

/* Returns 0, or 77 after a line on stdout: there is no usable GPU. */
int device_open(void);
void device_close(void);
/* Loads the files. Returns 0, or -1 after a line on stderr. */
int kernels_load(char *const *files, int n);
/* Returns NULL if no module has the kernel. */
CUfunction kernel_find(const char *name);

/* overlap: the kernel may start while the one before it ends (9.0 and above). */
void kernel_launch(CUfunction f, const struct sur_gpu_launch *l, const void *parameter, bool overlap);
void device_wait(void);

/* ---- memory ---- */

enum { CANARY_BYTES = 16384 };
#define POISON 0xffc5ffc5u /* NaN as fp32, as bf16 and as fp16 */

/* Poisoned, with canaries on both sides, until memory_release(). `name` must last. */
sur_gpu_ptr memory_new(const char *name, size_t n_bytes);
/* Like memory_new, with a copy of `from` in it. */
sur_gpu_ptr memory_of(const char *name, const void *from, size_t n_bytes);
/* Pinned host memory that the device sees at the same address; poisoned. */
void *memory_pinned(size_t n_bytes);
void memory_put(sur_gpu_ptr to, const void *from, size_t n_bytes);
void memory_get(void *to, sur_gpu_ptr from, size_t n_bytes);
void memory_poison(sur_gpu_ptr p, size_t n_bytes);
/* Returns NULL, or the name of a buffer whose canaries were overwritten. */
const char *memory_damaged(void);
void memory_release(void);
/* Host memory, zeroed; never NULL; freed by host_release(). */
void *host_new(size_t n, size_t size);
void host_release(void);

/* ---- data ---- */

enum data {
    DATA_RANDOM,  /* about normal */
    DATA_INTEGER, /* integers to +-2047: the split and every sum are exact */
    DATA_ZERO,
    DATA_DENORMAL,
    DATA_LARGE, /* +-1e4 */
    DATA_SPIKE, /* one 1e4 among 1e-3 */
    DATA_KINDS
};
extern const char *const data_names[DATA_KINDS];

void random_seed(uint64_t seed);
uint32_t random_bits(void);
float random_normal(void); /* about: the sum of four uniforms, variance 1 */
void data_fill(float *x, size_t n, enum data kind);

uint16_t to_bf16(float x); /* nearest even */
float from_bf16(uint16_t h);
uint16_t to_fp16(float x); /* nearest even, saturated */
float from_fp16(uint16_t h);

/* Calls part(arg, i) for 0 <= i < n from several threads. */
void in_parallel(void (*part)(void *arg, int i), void *arg, int n);

/* ---- report ---- */

/* Whether --only lets the line "kernel shape" run. */
bool report_wanted(const char *kernel, const char *shape);
/* Whether a case of so many multiply-adds runs: with --small only those that are quick on an emulated GPU. */
bool report_small(double multiply_adds);
/* Prints one line. reason NULL: passed. worst: the largest error as a share of its bound; below 0: bits were compared.
 */
void report(const char *kernel, const char *shape, double worst, const char *reason);
/* Like report, at the end of a case: checks the canaries first, and then releases device and host memory. */
void report_last(const char *kernel, const char *shape, double worst, const char *reason);
/* Reports that no module has the kernel: a failure, or with --only a skip. */
void report_missing(const char *kernel);
/* Formats into one of a few static buffers. */
const char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct tally {
    int passed, failed, skipped;
};
extern struct tally *tally; /* in memory shared with the child processes */
extern const char *report_only;
extern bool report_list;       /* names only: nothing is run */
extern bool report_only_small; /* --small */

#endif
