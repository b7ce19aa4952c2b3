#include "gpu/driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/fatbins.h"
#include "gpu/host.h"
#include "kernels/wide.h"
#include "util/clock.h"
#include "util/error.h"

static const char *const epilogues[SUR_GPU_N_EPILOGUES] = {"plain", "gelu", "add", "swiglu", "qkv", "rows", "head"};
static const struct {
    const char *file, *name;
} others[] = {{"split", "k_split"},
              {"attend", "k_attend_64"},
              {"attend", "k_attend_128"},
              {"attend_wide", "k_attend_wide_64"},
              {"attend_wide", "k_attend_wide_128"},
              {"attend", "k_attend_plain"},
              {"small", "k_embed"},
              {"small", "k_begin"},
              {"small", "k_carry"},
              {"small", "k_randomize"},
              {"small", "k_probe"},
              {"gemm", "k_unroll"},
              {"gemm", "k_softmax"}};
_Static_assert(sizeof others / sizeof *others == GPU_N_KERNELS - GPU_SPLIT, "a name for each kernel");

int gpu_check(CUresult result, const char *call)
{
    const char *name = NULL, *text = NULL;
    if (result == CUDA_SUCCESS) return SUR_OK;
    cuGetErrorName(result, &name);
    cuGetErrorString(result, &text);
    return sur_fail(SUR_ERR_BACKEND, "CUDA: %.*s: %s (%s)", (int)strcspn(call, "("), call,
                    text ? text : "unknown error", name ? name : "?");
}

/* ---- device ---- */

static int pick(CUdevice *device, char *why, size_t why_bytes)
{
    CUresult e = cuInit(0);
    const char *text = NULL;
    int n = 0, major = 0, minor = 0;
    char name[96] = "";
    if (!e) e = cuDeviceGetCount(&n);
    if (!e && n) e = cuDeviceGet(device, 0);
    if (!e && n) e = cuDeviceGetName(name, sizeof name, *device);
    if (!e && n) e = cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, *device);
    if (!e && n) e = cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, *device);
    if (!e && major >= 8) return SUR_OK;
    if (e) {
        cuGetErrorString(e, &text);
        snprintf(why, why_bytes, "the NVIDIA driver says: %s", text ? text : "unknown error");
    } else if (n == 0)
        snprintf(why, why_bytes, "the NVIDIA driver sees no GPU");
    else
        snprintf(why, why_bytes, "%s has compute capability %d.%d; 8.0 is needed", name, major, minor);
    return SUR_ERR_BACKEND;
}

int gpu_probe(char *why, size_t why_bytes)
{
    CUdevice device;
    return pick(&device, why, why_bytes);
}

static int read_attributes(struct gpu *g)
{
    int major = 0;
    int r = CHECK(cuDeviceGetAttribute(&g->multiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, g->device));
    CUdevice_attribute shared = CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    if (!r) r = CHECK(cuDeviceGetAttribute(&g->max_shared, shared, g->device));
    if (!r) r = CHECK(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, g->device));
    g->dependent_launch = major >= 9;
    return r;
}

/* All of a block's shared memory but the kernel's own may be asked for at launch. */
static int find(struct gpu *g, enum gpu_kernel kernel, const char *file, const char *name)
{
    CUfunction f = NULL;
    int own = 0, r = SUR_OK;
    for (int i = 0; !r && i < GPU_MAX_MODULES && g->modules[i]; i++)
        if (!strcmp(sur_gpu_fatbins[i].name, file)) r = gpu_check(cuModuleGetFunction(&f, g->modules[i], name), name);
    if (!r && !f) return sur_fail(SUR_ERR_BACKEND, "CUDA: the kernel %s is missing", name);
    if (r) return r;
    g->kernels[kernel] = f;
    r = CHECK(cuFuncGetAttribute(&own, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, f));
    /* All alike: a multiprocessor that shares its memory out anew must be empty, and kernels overlap. But the probe
     * reads through the first-level cache: with what that leaves of it, it read 4,345 GB/s in place of 4,545. */
    if (!r && kernel != GPU_PROBE)
        r = CHECK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100));
    return r ? r : CHECK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, g->max_shared - own));
}

static int find_kernels(struct gpu *g)
{
    char name[64];
    int r = SUR_OK;
    for (int e = 0; !r && e < SUR_GPU_N_EPILOGUES; e++) {
        snprintf(name, sizeof name, "k_narrow_%s", epilogues[e]);
        r = find(g, GPU_NARROW + (enum gpu_kernel)e, "narrow", name);
        if (e == SUR_GPU_HEAD) continue;
        snprintf(name, sizeof name, "k_finish_%s", epilogues[e]);
        if (!r) r = find(g, GPU_FINISH + (enum gpu_kernel)e, "gemm", name);
        for (int shape = 0; !r && shape < SUR_GPU_N_WIDE; shape++) {
            snprintf(name, sizeof name, "k_wide_%s%s", epilogues[e], sur_gpu_wide_tile_at(shape).suffix);
            r = find(g, (enum gpu_kernel)(GPU_WIDE + e * SUR_GPU_N_WIDE + shape), "wide", name);
        }
    }
    for (int i = GPU_SPLIT; !r && i < GPU_N_KERNELS; i++)
        r = find(g, (enum gpu_kernel)i, others[i - GPU_SPLIT].file, others[i - GPU_SPLIT].name);
    return r;
}

int gpu_open(struct gpu *g)
{
    char why[256];
    *g = (struct gpu){.context = NULL};
    if (pick(&g->device, why, sizeof why)) return sur_fail(SUR_ERR_BACKEND, "%s", why);
    int r = CHECK(cuDevicePrimaryCtxRetain(&g->context, g->device));
    if (!r) r = gpu_enter(g);
    if (!r) r = read_attributes(g);
    for (int i = 0; !r && i < GPU_MAX_MODULES && sur_gpu_fatbins[i].name; i++)
        r = CHECK(cuModuleLoadData(&g->modules[i], sur_gpu_fatbins[i].data));
    if (!r) r = find_kernels(g);
    if (r) gpu_close(g);
    return r;
}

void gpu_close(struct gpu *g)
{
    if (!g->context) return;
    for (int i = 0; i < GPU_MAX_MODULES; i++)
        if (g->modules[i]) cuModuleUnload(g->modules[i]);
    cuDevicePrimaryCtxRelease(g->device);
    g->context = NULL;
}

int gpu_enter(const struct gpu *g)
{
    return CHECK(cuCtxSetCurrent(g->context));
}

void gpu_enter_to_free(const struct gpu *g)
{
    cuCtxSetCurrent(g->context);
}

/* ---- memory ---- */

static int none_left(const char *where, size_t n_bytes)
{
    return sur_fail(SUR_ERR_BACKEND, "not enough %s memory: %zu MiB more are needed", where, (n_bytes >> 20) + 1);
}

int gpu_allocate(struct gpu *g, CUdeviceptr *p, size_t n_bytes, bool zero)
{
    *p = 0;
    CUresult e = gpu_may_allocate(n_bytes) ? cuMemAlloc(p, n_bytes) : CUDA_ERROR_OUT_OF_MEMORY;
    if (e == CUDA_ERROR_OUT_OF_MEMORY) return none_left("GPU", n_bytes);
    if (e != CUDA_SUCCESS) return gpu_check(e, "cuMemAlloc");
    atomic_fetch_add(&g->memory_bytes, (long long)n_bytes);
    if (!zero) return SUR_OK;
    int r = CHECK(cuMemsetD8(*p, 0, n_bytes));
    if (r) gpu_free(g, p, n_bytes);
    return r;
}

void gpu_free(struct gpu *g, CUdeviceptr *p, size_t n_bytes)
{
    if (!*p) return;
    cuMemFree(*p);
    atomic_fetch_sub(&g->memory_bytes, (long long)n_bytes);
    *p = 0;
}

int gpu_allocate_host(void **p, size_t n_bytes, bool zero)
{
    *p = NULL;
    CUresult e =
        gpu_may_allocate(n_bytes) ? cuMemHostAlloc(p, n_bytes, CU_MEMHOSTALLOC_PORTABLE) : CUDA_ERROR_OUT_OF_MEMORY;
    if (e == CUDA_ERROR_OUT_OF_MEMORY) return none_left("pinned", n_bytes);
    if (e == CUDA_SUCCESS && zero) memset(*p, 0, n_bytes);
    return gpu_check(e, "cuMemHostAlloc");
}

void gpu_free_host(void **p)
{
    if (*p) cuMemFreeHost(*p);
    *p = NULL;
}

int gpu_free_memory(size_t *n_bytes)
{
    size_t total;
    return CHECK(cuMemGetInfo(n_bytes, &total));
}

/* ---- launches ---- */

int gpu_launch(const struct gpu *g, CUstream stream, enum gpu_kernel kernel, const struct sur_gpu_launch *l,
               const void *params, bool overlap)
{
    CUlaunchAttribute attribute = {.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
                                   .value.programmaticStreamSerializationAllowed = 1};
    CUlaunchConfig config = {.gridDimX = l->grid[0],
                             .gridDimY = l->grid[1],
                             .gridDimZ = l->grid[2],
                             .blockDimX = l->threads,
                             .blockDimY = 1,
                             .blockDimZ = 1,
                             .sharedMemBytes = l->shared_bytes,
                             .hStream = stream,
                             .attrs = &attribute,
                             .numAttrs = overlap && g->dependent_launch};
    union {
        const void *in;
        void *out;
    } p = {params};
    return CHECK(cuLaunchKernelEx(&config, g->kernels[kernel], &p.out, NULL));
}

/* ---- bandwidth ---- */

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Random bytes: a block from here, doubled until it fills the memory. */
static int fill_random(CUdeviceptr p, size_t n_bytes)
{
    enum { BLOCK = 1 << 20 };
    uint32_t *block = malloc(BLOCK), x = 1;
    if (!block) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    for (size_t i = 0; i < BLOCK / 4; i++) block[i] = x = x * 1664525u + 1013904223u;
    int r = CHECK(cuMemcpyHtoD(p, block, BLOCK));
    for (size_t have = BLOCK; !r && have < n_bytes; have *= 2)
        r = CHECK(cuMemcpyDtoD(p + have, p, have * 2 <= n_bytes ? have : n_bytes - have));
    free(block);
    return r;
}

static int time_probe(const struct gpu *g, CUdeviceptr data, size_t n_bytes, CUevent from, CUevent to, double *best)
{
    enum { REPS = 7, WARM_MS = 100 };
    struct sur_gpu_probe probe = {data, data, n_bytes};
    int r = SUR_OK;
    /* A GPU that has waited runs at lower clocks at first. */
    for (int64_t start = sur_clock_ns(); !r && sur_clock_ns() - start < WARM_MS * 1000000LL;) {
        struct sur_gpu_launch l = {{8 * (unsigned)g->multiprocessors, 1, 1}, 512, 0};
        r = gpu_launch(g, NULL, GPU_PROBE, &l, &probe, false);
        if (!r) r = CHECK(cuStreamSynchronize(NULL));
    }
    for (unsigned blocks = 2; !r && blocks <= 8; blocks *= 2) { /* a multiprocessor; the best grid counts */
        struct sur_gpu_launch l = {{blocks * (unsigned)g->multiprocessors, 1, 1}, 512, 0};
        float ms[REPS];
        for (int i = 0; !r && i < REPS; i++) {
            r = CHECK(cuEventRecord(from, NULL));
            if (!r) r = gpu_launch(g, NULL, GPU_PROBE, &l, &probe, false);
            if (!r) r = CHECK(cuEventRecord(to, NULL));
            if (!r) r = CHECK(cuEventSynchronize(to));
            if (!r) r = CHECK(cuEventElapsedTime(&ms[i], from, to));
        }
        if (r) break; /* ms is not complete */
        qsort(ms, REPS, sizeof *ms, by_value);
        double rate = (double)n_bytes / (ms[REPS / 2] * 1e-3);
        if (rate > *best) *best = rate;
    }
    return r;
}

int gpu_read_bandwidth(struct gpu *g, double *bytes_a_second)
{
    size_t free_bytes = 0, n_bytes = (size_t)8 << 30;
    CUdeviceptr data = 0;
    CUevent from = NULL, to = NULL;
    *bytes_a_second = 0;
    int r = gpu_free_memory(&free_bytes);
    while (n_bytes > free_bytes / 2 && n_bytes > 1 << 26) n_bytes /= 2;
    if (!r) r = gpu_allocate(g, &data, n_bytes, false);
    if (!r) r = fill_random(data, n_bytes);
    if (!r) r = CHECK(cuEventCreate(&from, CU_EVENT_DEFAULT));
    if (!r) r = CHECK(cuEventCreate(&to, CU_EVENT_DEFAULT));
    if (!r) r = time_probe(g, data, n_bytes, from, to, bytes_a_second);
    if (from) cuEventDestroy(from);
    if (to) cuEventDestroy(to);
    gpu_free(g, &data, n_bytes);
    return r;
}
