/* The border between the library and the CUDA module (surtitle-cuda.so), which is loaded with dlopen and needs no
 * symbol of whoever loads it: what it calls comes in this table. */
#ifndef SUR_GPU_MODULE_H
#define SUR_GPU_MODULE_H

#include <stddef.h>
#include <stdint.h>

#include "model/backend.h"

struct sur_gpu_host {
    int (*fail)(int code, const char *line); /* sur_fail: keeps the line, returns code */
    void (*log)(enum sur_log_level level, const char *line);
    int64_t (*clock_ns)(void);
    /* For tests: false makes the allocation of that many bytes fail. NULL: all may be tried. */
    int (*may_allocate)(size_t n_bytes);
};

/* The module's one symbol. abi: SUR_GPU_ABI, a hash of this file and of all that it includes of ours, which the build
 * makes (gpu_abi.h, by abi.sh). NULL when it is not the module's own. host must outlive the backend. */
typedef const struct sur_backend *(*sur_backend_cuda_fn)(uint64_t abi, const struct sur_gpu_host *host);

#endif
