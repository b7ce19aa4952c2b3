/* What the checks and the bench share: the device, memory between canaries, launches, data, and the report.
 *
 * A check runs in a process of its own, so that a kernel that crashes or hangs costs that check only. */
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
    int max_shared;                  /* bytes a block may have */
    char name[100];
    CUstream stream;
};
extern struct device device;

/* 0; or 77 with a line on stdout: nothing here to run on. */
int device_open(void);
void device_close(void);
/* All modules of the files; a file that does not load is a line on stderr and -1. */
int kernels_load(char *const *files, int n);
/* NULL: no module has it. */
CUfunction kernel_find(const char *name);

/* overlap: the kernel may start while the one before it ends (9.0 and above). */
void kernel_launch(CUfunction f, const struct sur_gpu_launch *l, const void *parameter, bool overlap);
void device_wait(void);

/* ---- memory ---- */

enum { CANARY_BYTES = 16384 };
#define POISON 0xffc5ffc5u /* NaN as fp32, as bf16 and as fp16 */

/* Poisoned, with canaries on both sides, until memory_release(). `name` must last. */
sur_gpu_ptr memory_new(const char *name, size_t n_bytes);
/* The same holding a copy of `from`. */
sur_gpu_ptr memory_of(const char *name, const void *from, size_t n_bytes);
/* Pinned host memory that the device sees at the same address; poisoned. */
void *memory_pinned(size_t n_bytes);
void memory_put(sur_gpu_ptr to, const void *from, size_t n_bytes);
void memory_get(void *to, sur_gpu_ptr from, size_t n_bytes);
void memory_poison(sur_gpu_ptr p, size_t n_bytes);
/* NULL: all whole; else the name of a buffer with writing beside it. */
const char *memory_damaged(void);
void memory_release(void);
/* Host memory, zeroed; never NULL; freed by host_release(). */
void *host_new(size_t n, size_t size);
void host_release(void);

/* ---- data ---- */

enum data {
    DATA_RANDOM,  /* about normal */
    DATA_INTEGER, /* whole numbers to +-2047: the split and every sum are exact */
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

/* Is "kernel shape" asked for by --only? */
bool report_wanted(const char *kernel, const char *shape);
/* With --small: is a case of so many multiply-adds among those that even an emulated GPU soon has done? */
bool report_small(double multiply_adds);
/* One line. reason NULL: ok. worst: the largest error as a share of its bound; below 0: bits were compared. */
void report(const char *kernel, const char *shape, double worst, const char *reason);
/* The same as the last of a case: looks for damage beside its memory, and releases that and the host's. */
void report_last(const char *kernel, const char *shape, double worst, const char *reason);
/* The kernel is in no module: a failure, or with --only a skip. */
void report_missing(const char *kernel);
/* Formats into one of a few static buffers. */
const char *text(const char *format, ...) __attribute__((format(printf, 1, 2)));

struct tally {
    int passed, failed, skipped;
};
extern struct tally *tally; /* shared with the processes that check */
extern const char *report_only;
extern bool report_list;       /* names only: nothing is run */
extern bool report_only_small; /* --small */

#endif
