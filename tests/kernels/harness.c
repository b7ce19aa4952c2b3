#include "harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_MODULES = 16, MAX_BUFFERS = 128 };

struct device device;

static CUmodule modules[MAX_MODULES];
static int n_modules;
static CUdevice handle;

static int attribute(CUdevice_attribute what)
{
    int value = 0;
    CU(cu.cuDeviceGetAttribute(&value, what, handle));
    return value;
}

int device_open(void)
{
    const char *why = NULL;
    int count = 0;
    if (driver_open(&why)) return printf("skipped: %s\n", why), 77;
    CUresult r = cu.cuInit(0);
    if (r == CUDA_SUCCESS) r = cu.cuDeviceGetCount(&count);
    if (r != CUDA_SUCCESS || count == 0) {
        const char *name = "no device";
        if (r != CUDA_SUCCESS) cu.cuGetErrorName(r, &name);
        return printf("skipped: no NVIDIA GPU (%s)\n", name), 77;
    }
    CUcontext context;
    CU(cu.cuDeviceGet(&handle, 0));
    CU(cu.cuDeviceGetName(device.name, sizeof device.name, handle));
    device.capability = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR) * 10 +
                        attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    if (device.capability < 80) return printf("skipped: %s is older than compute capability 8.0\n", device.name), 77;
    device.multiprocessors = attribute(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    device.max_shared = attribute(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN) - 1024;
    CU(cu.cuDevicePrimaryCtxRetain(&context, handle));
    CU(cu.cuCtxSetCurrent(context));
    CU(cu.cuStreamCreate(&device.stream, CU_STREAM_NON_BLOCKING));
    return 0;
}

void device_close(void)
{
    memory_release();
    for (int i = 0; i < n_modules; i++) CU(cu.cuModuleUnload(modules[i]));
    n_modules = 0;
    CU(cu.cuStreamDestroy(device.stream));
    CU(cu.cuDevicePrimaryCtxRelease(handle));
}

static char *file_text(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || fseek(f, 0, SEEK_END)) {
        if (f) fclose(f);
        return NULL;
    }
    long n = ftell(f);
    char *text = n > 0 ? calloc((size_t)n + 16, 1) : NULL;
    rewind(f);
    bool whole = text && fread(text, 1, (size_t)n, f) == (size_t)n;
    fclose(f);
    if (!whole) free(text), text = NULL;
    return text;
}

int kernels_load(char *const *files, int n)
{
    for (int i = 0; i < n; i++) {
        char *image = n_modules < MAX_MODULES ? file_text(files[i]) : NULL;
        CUresult r = image ? cu.cuModuleLoadData(&modules[n_modules], image) : CUDA_ERROR_FILE_NOT_FOUND;
        free(image);
        if (r != CUDA_SUCCESS) {
            const char *name = "?";
            cu.cuGetErrorName(r, &name);
            fprintf(stderr, "%s: cannot be loaded: %s\n", files[i], name);
            return -1;
        }
        n_modules++;
    }
    return 0;
}

CUfunction kernel_find(const char *name)
{
    CUfunction f = NULL;
    for (int i = 0; i < n_modules; i++)
        if (cu.cuModuleGetFunction(&f, modules[i], name) == CUDA_SUCCESS) return f;
    return NULL;
}

void kernel_launch(CUfunction f, const struct sur_gpu_launch *l, const void *parameter, bool overlap)
{
    CUlaunchAttribute attribute = {.id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
                                   .value.programmaticStreamSerializationAllowed = 1};
    CUlaunchConfig c = {.gridDimX = l->grid[0],
                        .gridDimY = l->grid[1],
                        .gridDimZ = l->grid[2],
                        .blockDimX = l->threads,
                        .blockDimY = 1,
                        .blockDimZ = 1,
                        .sharedMemBytes = l->shared_bytes,
                        .hStream = device.stream,
                        .attrs = &attribute,
                        .numAttrs = overlap && device.capability >= 90};
    void *parameters[1];
    memcpy(parameters, &parameter, sizeof parameter);
    if (l->shared_bytes > 0) /* with the static part it may exceed 48 KB */
        CU(cu.cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)l->shared_bytes));
    CU(cu.cuLaunchKernelEx(&c, f, parameters, NULL));
}

void device_wait(void)
{
    CU(cu.cuStreamSynchronize(device.stream));
}

/* ---- memory ---- */

static struct buffer {
    CUdeviceptr base;
    size_t n_bytes;
    const char *name;
} buffers[MAX_BUFFERS];
static int n_buffers, n_pinned, n_host;
static void *pinned[MAX_BUFFERS], *host[MAX_BUFFERS];

static size_t whole_words(size_t n_bytes)
{
    return (n_bytes + 3) / 4;
}

sur_gpu_ptr memory_new(const char *name, size_t n_bytes)
{
    if (n_buffers == MAX_BUFFERS) fprintf(stderr, "MAX_BUFFERS is too small\n"), exit(1);
    struct buffer *b = &buffers[n_buffers++];
    *b = (struct buffer){.n_bytes = n_bytes, .name = name};
    size_t words = whole_words(n_bytes) + 2 * CANARY_BYTES / 4;
    CU(cu.cuMemAlloc(&b->base, words * 4));
    CU(cu.cuMemsetD32(b->base, POISON, words));
    CU(cu.cuCtxSynchronize());
    return b->base + CANARY_BYTES;
}

sur_gpu_ptr memory_of(const char *name, const void *from, size_t n_bytes)
{
    sur_gpu_ptr p = memory_new(name, n_bytes);
    memory_put(p, from, n_bytes);
    return p;
}

void *memory_pinned(size_t n_bytes)
{
    if (n_pinned == MAX_BUFFERS) fprintf(stderr, "MAX_BUFFERS is too small\n"), exit(1);
    void *p = NULL;
    CU(cu.cuMemHostAlloc(&p, n_bytes, CU_MEMHOSTALLOC_DEVICEMAP | CU_MEMHOSTALLOC_PORTABLE));
    memset(p, 0xc5, n_bytes);
    pinned[n_pinned++] = p;
    return p;
}

void memory_put(sur_gpu_ptr to, const void *from, size_t n_bytes)
{
    CU(cu.cuMemcpyHtoD(to, from, n_bytes));
    CU(cu.cuCtxSynchronize()); /* the copy may not have ended yet, and kernels run on another stream */
}

void memory_get(void *to, sur_gpu_ptr from, size_t n_bytes)
{
    CU(cu.cuMemcpyDtoH(to, from, n_bytes));
}

void memory_poison(sur_gpu_ptr p, size_t n_bytes)
{
    CU(cu.cuMemsetD32(p, POISON, n_bytes / 4));
    CU(cu.cuCtxSynchronize());
}

const char *memory_damaged(void)
{
    static unsigned char side[CANARY_BYTES + 4];
    for (int i = 0; i < n_buffers; i++)
        for (int after = 0; after < 2; after++) {
            CUdeviceptr from = buffers[i].base + (after ? CANARY_BYTES + buffers[i].n_bytes : 0);
            size_t odd = after ? buffers[i].n_bytes % 4 : 0; /* the pattern starts at a multiple of 4 bytes */
            memory_get(side, from, CANARY_BYTES);
            for (size_t j = 0; j < CANARY_BYTES; j++)
                if (side[j] != ((j + odd) % 2 ? 0xff : 0xc5)) return buffers[i].name;
        }
    return NULL;
}

void memory_release(void)
{
    for (int i = 0; i < n_buffers; i++) CU(cu.cuMemFree(buffers[i].base));
    for (int i = 0; i < n_pinned; i++) CU(cu.cuMemFreeHost(pinned[i]));
    n_buffers = n_pinned = 0;
}

void *host_new(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p || n_host == MAX_BUFFERS) fprintf(stderr, "no memory for %zu elements\n", n), exit(1);
    return host[n_host++] = p;
}

void host_release(void)
{
    for (int i = 0; i < n_host; i++) free(host[i]);
    n_host = 0;
}

void report_last(const char *kernel, const char *shape, double worst, const char *reason)
{
    const char *damaged = memory_damaged();
    if (!reason && damaged) reason = text("wrote outside %s", damaged);
    report(kernel, shape, worst, reason);
    memory_release();
    host_release();
}
