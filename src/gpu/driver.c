#include "gpu/driver.h"

#include <stdio.h>
#include <string.h>

#include "gpu/fatbins.h"
#include "gpu/services.h"
#include "kernels/tiled.h"
#include "util/error.h"
#include "util/log.h"

static const char *const epilogues[SUR_GPU_N_EPILOGUES] = {"gelu", "add", "swiglu", "qkv", "rows", "head"};
static const struct {
    const char *file, *name;
} others[] = {{"split", "k_split"},
              {"attend", "k_attend_64"},
              {"attend", "k_attend_128"},
              {"attend_many", "k_attend_many_64"},
              {"attend_many", "k_attend_many_128"},
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

enum { MAX_DEVICES = 64 };

struct candidate {
    CUdevice device;
    int number;
    char name[96];
    size_t free_bytes;
};

static int driver_reason(CUresult e, char *why, size_t why_bytes)
{
    const char *text = NULL;
    cuGetErrorString(e, &text);
    snprintf(why, why_bytes, "the NVIDIA driver says: %s", text ? text : "unknown error");
    return SUR_ERR_BACKEND;
}

/* Fills *c. SUR_ERR_BACKEND with the reason in why: the compute capability is too low, or a call failed. */
static int describe_device(int number, struct candidate *c, char *why, size_t why_bytes)
{
    int major = 0, minor = 0;
    *c = (struct candidate){.number = number};
    CUresult e = cuDeviceGet(&c->device, number);
    if (!e) e = cuDeviceGetName(c->name, sizeof c->name, c->device);
    if (!e) e = cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, c->device);
    if (!e) e = cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, c->device);
    if (e) return driver_reason(e, why, why_bytes);
    if (major >= 8) return SUR_OK;
    snprintf(why, why_bytes, "%s has compute capability %d.%d; 8.0 is needed", c->name, major, minor);
    return SUR_ERR_BACKEND;
}

/* Finds the usable devices among all (wanted -1), or checks the wanted one. why: the reason of the last refusal. */
static int find_candidates(struct candidate candidates[MAX_DEVICES], int *n_candidates, int *n_devices, int wanted,
                           char *why, size_t why_bytes)
{
    CUresult e = cuInit(0);
    *n_candidates = *n_devices = 0;
    if (!e) e = cuDeviceGetCount(n_devices);
    if (e) return driver_reason(e, why, why_bytes);
    if (*n_devices == 0) {
        snprintf(why, why_bytes, "the NVIDIA driver sees no GPU");
        return SUR_ERR_BACKEND;
    }
    if (wanted >= *n_devices) {
        snprintf(why, why_bytes, "there is no GPU %d: the driver sees %d, numbered from 0", wanted, *n_devices);
        return SUR_ERR_ARGUMENT;
    }
    const int last = wanted >= 0 ? wanted : *n_devices - 1;
    for (int i = wanted >= 0 ? wanted : 0; i <= last && *n_candidates < MAX_DEVICES; i++)
        *n_candidates += describe_device(i, &candidates[*n_candidates], why, why_bytes) == SUR_OK;
    return *n_candidates ? SUR_OK : SUR_ERR_BACKEND;
}

/* Free memory can be read only in a context, which takes about 0.2 s per device: done only with several devices. */
static int ask_free_memory(struct candidate *c, char *why, size_t why_bytes)
{
    CUcontext context;
    size_t total;
    CUresult e = cuDevicePrimaryCtxRetain(&context, c->device);
    if (e) return driver_reason(e, why, why_bytes);
    e = cuCtxSetCurrent(context);
    if (!e) e = cuMemGetInfo(&c->free_bytes, &total);
    cuCtxSetCurrent(NULL);
    cuDevicePrimaryCtxRelease(c->device);
    return e ? driver_reason(e, why, why_bytes) : SUR_OK;
}

/* As gpu_open says. */
static int choose_device(CUdevice *device, int wanted, char *why, size_t why_bytes)
{
    struct candidate candidates[MAX_DEVICES], *best = NULL;
    int n, n_devices, r = find_candidates(candidates, &n, &n_devices, wanted, why, why_bytes);
    if (r) return r;
    if (n == 1) best = &candidates[0];
    for (int i = 0; n > 1 && i < n; i++) {
        struct candidate *c = &candidates[i];
        if (ask_free_memory(c, why, why_bytes))
            sur_log(SUR_LOG_INFO, "GPU %d (%s) is left out: %s", c->number, c->name, why);
        else if (!best || c->free_bytes > best->free_bytes)
            best = c;
    }
    if (!best) return SUR_ERR_BACKEND;
    *device = best->device;
    if (wanted >= 0)
        sur_log(SUR_LOG_INFO, "GPU %d (%s): as asked", best->number, best->name);
    else if (n > 1)
        sur_log(SUR_LOG_INFO, "GPU %d (%s): of %d that can be used the most free memory, %zu MiB", best->number,
                best->name, n, best->free_bytes >> 20);
    else
        sur_log(SUR_LOG_INFO, "GPU %d (%s): the only one of %d that can be used", best->number, best->name, n_devices);
    return SUR_OK;
}

int gpu_probe(char *why, size_t why_bytes)
{
    struct candidate candidates[MAX_DEVICES];
    int n, n_devices;
    return find_candidates(candidates, &n, &n_devices, -1, why, why_bytes);
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

/* Raises the kernel's limit of dynamic shared memory to what its static part leaves. */
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
    /* One carve-out for all: a multiprocessor must be empty before it changes its own, and kernels overlap. Not for the
     * probe, which reads through the first-level cache (4,345 GB/s with this carve-out instead of 4,545). */
    if (!r && kernel != GPU_PROBE)
        r = CHECK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, 100));
    return r ? r : CHECK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, g->max_shared - own));
}

static int find_kernels(struct gpu *g)
{
    char name[64];
    int r = SUR_OK;
    for (int e = 0; !r && e < SUR_GPU_N_EPILOGUES; e++) {
        snprintf(name, sizeof name, "k_skinny_%s", epilogues[e]);
        r = find(g, GPU_SKINNY + (enum gpu_kernel)e, "skinny", name);
        if (e == SUR_GPU_HEAD) continue;
        snprintf(name, sizeof name, "k_finish_%s", epilogues[e]);
        if (!r) r = find(g, GPU_FINISH + (enum gpu_kernel)e, "gemm", name);
        for (int shape = 0; !r && shape < SUR_GPU_N_TILES; shape++) {
            snprintf(name, sizeof name, "k_tiled_%s%s", epilogues[e], sur_gpu_tile_at(shape).suffix);
            r = find(g, (enum gpu_kernel)(GPU_TILED + e * SUR_GPU_N_TILES + shape), "tiled", name);
        }
    }
    for (int i = GPU_SPLIT; !r && i < GPU_N_KERNELS; i++)
        r = find(g, (enum gpu_kernel)i, others[i - GPU_SPLIT].file, others[i - GPU_SPLIT].name);
    return r;
}

int gpu_open(struct gpu *g, int wanted)
{
    char why[256];
    *g = (struct gpu){.context = NULL};
    int r = choose_device(&g->device, wanted, why, sizeof why);
    if (r) return sur_fail(r, "%s", why);
    r = CHECK(cuDevicePrimaryCtxRetain(&g->context, g->device));
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

static int out_of_memory(const char *where, size_t n_bytes)
{
    return sur_fail(SUR_ERR_BACKEND, "not enough %s memory: %zu MiB more are needed", where, (n_bytes >> 20) + 1);
}

int gpu_allocate(struct gpu *g, CUdeviceptr *p, size_t n_bytes, bool zero)
{
    *p = 0;
    CUresult e = gpu_may_allocate(n_bytes) ? cuMemAlloc(p, n_bytes) : CUDA_ERROR_OUT_OF_MEMORY;
    if (e == CUDA_ERROR_OUT_OF_MEMORY) return out_of_memory("GPU", n_bytes);
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
    if (e == CUDA_ERROR_OUT_OF_MEMORY) return out_of_memory("pinned", n_bytes);
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
