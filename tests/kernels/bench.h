/* Timing of kernels: a pool of random numbers in device memory from which weights, keys and values are taken at ever
 * other places, so that the second-level cache holds none of them, and medians over graphs of many launches. */
#ifndef SUR_TESTS_KERNELS_BENCH_H
#define SUR_TESTS_KERNELS_BENCH_H

#include "harness.h"

enum { BENCH_MAX_PARAMETERS = 256 };

struct bench_item {
    const char *name, *kernel;
    struct sur_gpu_launch launch;
    unsigned char parameters[BENCH_MAX_PARAMETERS];
    size_t rotate[3];       /* offsets in parameters of the addresses that move through the pool; 0: none */
    size_t rotate_bytes[3]; /* bytes that are read from each */
    double n_bytes;         /* read per launch; 0: not bound by memory */
    double flops;           /* useful operations per launch; 0: not bound by arithmetic */
};

/* bf16 and fp16 alike: finite, random in sign and size. 0, or 1 with a line. */
int bench_open(void);
double bench_probe(void);                             /* bytes per second with the best grid; prints a line */
sur_gpu_ptr bench_floats(const char *name, size_t n); /* random fp32 numbers */
sur_gpu_ptr bench_zeros(const char *name, size_t n_bytes);
void bench_header(void);
void bench_run(const struct bench_item *item); /* prints a line; a missing kernel is a failure */
extern int bench_failed;

void bench_items(void);

#endif
