/* The groups of checks; main.c runs each in a process of its own, with its argument. */
#ifndef SUR_TESTS_KERNELS_CHECKS_H
#define SUR_TESTS_KERNELS_CHECKS_H

/* Reports a failure if no module has the kernel. With --list it does nothing. */
void checks_need(const char *kernel);

void check_skinny_names(int unused);
void check_tiled_names(int unused);
void check_skinny(int epilogue); /* enum sur_gpu_epilogue, or -1: special cases */
void check_tiled(int epilogue);
void check_split(int unused);
void check_attend(int unused);
void check_overlap(int unused);
void check_gemm(int unused);
void check_small(int unused);

/* Times every kernel at full size, as a share of the memory's bandwidth. Returns 0, or 1 if one could not run. */
int bench(void);

#endif
