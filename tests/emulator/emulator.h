/* The emulator's interface to the fake driver (tests/gpu/fake_cuda.c), which it is linked with. For C and C++. */
#ifndef SUR_TESTS_EMULATOR_H
#define SUR_TESTS_EMULATOR_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EMULATOR_PARAMETER_BYTES = 256 }; /* upper limit */

struct emulated_kernel {
    const char *name;
    size_t parameter_bytes;
    void (*run)(const void *parameter); /* as one thread */
};
extern const struct emulated_kernel emulated_kernels[]; /* the last has no name */

struct emulated_launch {
    unsigned grid[3], threads, shared_bytes;
};
/* Runs the blocks one after another, in ascending order, in every other launch in descending order. Thread-safe; one
 * launch runs at a time. A kernel that deadlocks, diverges or reads outside its shared memory ends the process. */
void emulator_run(const struct emulated_kernel *kernel, const struct emulated_launch *launch, const void *parameter);

#ifdef __cplusplus
}
#endif

#endif
