/* The border between the library and the CUDA module (surtitle-cuda.so). The library loads the module with dlopen; the
 * module needs no symbol of the library: what it calls comes in a table. */
#ifndef SUR_GPU_MODULE_H
#define SUR_GPU_MODULE_H

#include <stddef.h>
#include <stdint.h>

#include "model/progress.h" /* the library reads the progress of the module's sessions */
#include "model/schedule.h" /* the sizes of what it passes to them */

/* What the library does for the module. All may be called from any thread. */
struct sur_gpu_services {
    int (*fail)(int code, const char *line); /* sur_fail: keeps the line, returns code */
    void (*log)(enum sur_log_level level, const char *line);
    int64_t (*clock_ns)(void);
    /* For tests: false makes the allocation of that many bytes fail. NULL: none fails. */
    int (*may_allocate)(size_t n_bytes);
};

/* The module's only symbol. abi: SUR_GPU_ABI, a hash of this file and of every header of ours that it includes, which
 * the build makes (gpu_abi.h, by abi.sh). Returns NULL when abi is not the module's own. services must outlive the
 * backend. */
typedef const struct sur_backend *(*sur_backend_cuda_fn)(uint64_t abi, const struct sur_gpu_services *services);

#endif
