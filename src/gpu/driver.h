/* The CUDA driver: one device, its primary context, its memory and its kernels. Functions return SUR_OK, or
 * SUR_ERR_BACKEND with an error line that names the call. Thread-safe after gpu_enter in the calling thread. */
#ifndef SUR_GPU_DRIVER_H
#define SUR_GPU_DRIVER_H

#include <cuda.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/launch.h"
#include "kernels/tiled.h"

/* Kernels by number; driver.c has their names. Products have one kernel per epilogue. */
enum gpu_kernel {
    GPU_SKINNY,                                                     /* + epilogue */
    GPU_TILED = GPU_SKINNY + SUR_GPU_N_EPILOGUES,                   /* + epilogue * SUR_GPU_N_TILES + tile (tiled.h) */
    GPU_FINISH = GPU_TILED + SUR_GPU_N_TILES * SUR_GPU_N_EPILOGUES, /* + epilogue */
    GPU_SPLIT = GPU_FINISH + SUR_GPU_N_EPILOGUES,
    GPU_ATTEND_64,
    GPU_ATTEND_128,
    GPU_ATTEND_MANY_64,
    GPU_ATTEND_MANY_128,
    GPU_ATTEND_PLAIN,
    GPU_EMBED,
    GPU_BEGIN,
    GPU_CARRY,
    GPU_RANDOMIZE,
    GPU_PROBE,
    GPU_UNROLL,
    GPU_SOFTMAX,
    GPU_N_KERNELS
};

enum { GPU_MAX_MODULES = 8 };

struct gpu {
    CUdevice device;
    CUcontext context;
    CUmodule modules[GPU_MAX_MODULES];
    CUfunction kernels[GPU_N_KERNELS];
    int multiprocessors, max_shared; /* bytes of shared memory per thread block */
    bool dependent_launch;           /* compute capability 9.0 and above */
    atomic_llong memory_bytes;       /* allocated on the device */
};

/* SUR_OK when at least one device can be used; else SUR_ERR_BACKEND with the reason in why. */
int gpu_probe(char *why, size_t why_bytes);
/* Opens device number `wanted`, or for -1 the usable one with the most free memory. SUR_ERR_ARGUMENT: no such number.
 * After a failure nothing is left open. */
int gpu_open(struct gpu *gpu, int wanted);
void gpu_close(struct gpu *gpu);
/* Makes the context current in the calling thread. */
int gpu_enter(const struct gpu *gpu);
/* Like gpu_enter, but ignores failure and keeps the current error line: for destroy functions. */
void gpu_enter_to_free(const struct gpu *gpu);

/* SUR_OK, or sur_fail with the driver's text. */
int gpu_check(CUresult result, const char *call);
#define CHECK(call) gpu_check(call, #call)
/* Device memory, or pinned host memory that kernels see. zero: filled with zeros. After a failure *p is 0. */
int gpu_allocate(struct gpu *gpu, CUdeviceptr *p, size_t n_bytes, bool zero);
void gpu_free(struct gpu *gpu, CUdeviceptr *p, size_t n_bytes);
int gpu_allocate_host(void **p, size_t n_bytes, bool zero);
void gpu_free_host(void **p);
int gpu_free_memory(size_t *n_bytes);

static inline size_t gpu_round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Puts one of several buffers of an allocation at base + *at, and advances *at past it to a multiple of 256 bytes. */
static inline void gpu_place(size_t *at, CUdeviceptr base, CUdeviceptr *field, size_t n_bytes)
{
    *field = base + *at;
    *at += gpu_round_up(n_bytes, 256);
}

/* params: the kernel's struct of launch.h. overlap: the kernel may begin while the one before it in the stream ends
 * (programmatic dependent launch; ignored below compute capability 9.0). */
int gpu_launch(const struct gpu *gpu, CUstream stream, enum gpu_kernel kernel, const struct sur_gpu_launch *launch,
               const void *params, bool overlap);
/* bandwidth.c: bytes per second that the device reads from its memory, measured on the spot. */
int gpu_read_bandwidth(struct gpu *gpu, double *bytes_per_second);

#endif
