/* What the driver of tests (tests/gpu/fake_cuda.c) asks of the emulator, when it is linked with it: kernels that run.
 * For C and C++. */
#ifndef SUR_TESTS_EMULATOR_H
#define SUR_TESTS_EMULATOR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EMULATOR_PARAMETER_BYTES = 256 }; /* at most */

struct emulated_kernel {
    const char *name;
    size_t parameter_bytes;
    void (*run)(const void *parameter); /* a thread's share */
};
extern const struct emulated_kernel emulated_kernels[]; /* the last has no name */

struct emulated_launch {
    unsigned grid[3], threads, shared_bytes;
};
/* Blocks one after another: ascending, in every other launch descending. Any thread; one launch at a time. A kernel
 * that hangs, strays or reads shared memory that is not its own ends the process with a line. */
void emulator_run(const struct emulated_kernel *kernel, const struct emulated_launch *launch, const void *parameter);

#ifdef __cplusplus
}
#endif

#endif
