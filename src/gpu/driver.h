/* The CUDA driver: one device, its primary context, its memory and its kernels. Calls return SUR_OK or a failure whose
 * line names the call. Any thread may call after gpu_enter. */
#ifndef SUR_GPU_DRIVER_H
#define SUR_GPU_DRIVER_H

#include <cuda.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/launch.h"
#include "kernels/tiled.h"

/* Kernels by number; names in driver.c. Products come once an epilogue. */
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
    int multiprocessors, max_shared; /* bytes a block */
    bool dependent_launch;           /* compute capability 9.0 and above */
    atomic_llong memory_bytes;       /* allocated on the device */
};

/* SUR_OK when any device can be used; else the reason in why. */
int gpu_probe(char *why, size_t why_bytes);
/* The device of that number, or (wanted -1) of those that can be used the one with the most free memory. On failure
 * closed again. SUR_ERR_ARGUMENT: there is no such number. */
int gpu_open(struct gpu *gpu, int wanted);
void gpu_close(struct gpu *gpu);
int gpu_enter(const struct gpu *gpu);          /* makes the context the calling thread's */
void gpu_enter_to_free(const struct gpu *gpu); /* the same; what fails is no news, and the line that told it stays */

/* sur_fail with the driver's words, or SUR_OK. */
int gpu_check(CUresult result, const char *call);
#define CHECK(call) gpu_check(call, #call)
/* Device memory; pinned host memory, mapped. Zeroed when `zero`. *p is 0 on failure (SUR_ERR_BACKEND: none left). */
int gpu_allocate(struct gpu *gpu, CUdeviceptr *p, size_t n_bytes, bool zero);
void gpu_free(struct gpu *gpu, CUdeviceptr *p, size_t n_bytes);
int gpu_allocate_host(void **p, size_t n_bytes, bool zero);
void gpu_free_host(void **p);
int gpu_free_memory(size_t *n_bytes);

static inline size_t gpu_round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* One of several buffers in one allocation: at base + *at; *at goes past it, to a multiple of 256 bytes. */
static inline void gpu_place(size_t *at, CUdeviceptr base, CUdeviceptr *field, size_t n_bytes)
{
    *field = base + *at;
    *at += gpu_round_up(n_bytes, 256);
}

/* params: the kernel's struct. overlap: may begin while the kernel before it in the stream ends (dependent launch). */
int gpu_launch(const struct gpu *gpu, CUstream stream, enum gpu_kernel kernel, const struct sur_gpu_launch *launch,
               const void *params, bool overlap);
/* bandwidth.c: bytes per second that the device reads from its memory, measured on the spot. */
int gpu_read_bandwidth(struct gpu *gpu, double *bytes_per_second);

#endif
