/* A libcuda without a GPU. Device memory is host memory, every launch runs at once, and a test can make any call fail.
 * Kernels run if the emulator (tests/emulator) is linked in; else they do nothing. It has every entry point that the
 * module and the kernel checks call: when you call a new one, add it here. */
#include "fake_cuda.h"

#include <stdlib.h>
#include <string.h>

#include "emulator/emulator.h"

#pragma weak emulated_kernels
#pragma weak emulator_run

struct fake_cuda fake_cuda = {
    .error = CUDA_ERROR_ILLEGAL_ADDRESS, .total_bytes = (size_t)1 << 32, .n_devices = 1, .devices = {{.major = 9}}};
static char contexts[8]; /* a device's primary context is the address of its element */

/* For programs, which cannot set fake_cuda. */
__attribute__((constructor)) static void read_environment(void)
{
    const char *at = getenv("FAKE_CUDA_FAIL_AT"), *devices = getenv("FAKE_CUDA_DEVICES");
    if (devices) fake_cuda.n_devices = atoi(devices); /* all but the last are too old */
    for (int i = 0; i < fake_cuda.n_devices; i++) fake_cuda.devices[i].major = i + 1 < fake_cuda.n_devices ? 7 : 9;
    if (!at) return;
    fake_cuda.fail_at = atoi(at);
    fake_cuda.for_good = 1;
}

enum { HEAD = 256 }; /* in front of an allocation, with its size; aligned like the real driver's */

static CUresult called(void)
{
    int n = atomic_fetch_add(&fake_cuda.n_calls, 1) + 1, at = fake_cuda.fail_at;
    return at && (n == at || (n > at && fake_cuda.for_good)) ? fake_cuda.error : CUDA_SUCCESS;
}

/* Creates an object of any kind, without contents. */
static CUresult create(void *handle)
{
    void *object = NULL;
    CUresult e = called();
    if (e == CUDA_SUCCESS) {
        object = malloc(1);
        atomic_fetch_add(&fake_cuda.n_objects, 1);
    }
    memcpy(handle, &object, sizeof object);
    return e;
}

static CUresult destroy(void *object)
{
    free(object);
    atomic_fetch_sub(&fake_cuda.n_objects, 1);
    return CUDA_SUCCESS;
}

static void *pointer(CUdeviceptr p)
{
    void *q;
    memcpy(&q, &p, sizeof q);
    return q;
}

/* ---- device, context, modules ---- */

CUresult cuDriverGetVersion(int *version)
{
    *version = CUDA_VERSION;
    return called();
}

CUresult cuInit(unsigned flags)
{
    return called();
}

CUresult cuDeviceGetCount(int *n)
{
    *n = fake_cuda.n_devices;
    return called();
}

CUresult cuDeviceGet(CUdevice *device, int i)
{
    *device = i;
    return called();
}

CUresult cuDeviceGetName(char *name, int n_bytes, CUdevice device)
{
    strncpy(name, emulator_run ? "an emulated GPU" : "a GPU that computes nothing", (size_t)n_bytes - 1);
    return called();
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device)
{
    CUresult e = called();
    if (e != CUDA_SUCCESS) return e;
    *value = which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? fake_cuda.devices[device].major
             : which == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT   ? (emulator_run ? 8 : 132) /* few, which is faster */
             : which == CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN ? 227 << 10
                                                                              : 0;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char **name)
{
    *name = error == CUDA_ERROR_ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : NULL;
    return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char **text)
{
    *text = error == CUDA_ERROR_ILLEGAL_ADDRESS ? "an illegal memory access was encountered" : NULL;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device)
{
    CUresult e = called();
    if (e == CUDA_SUCCESS && fake_cuda.devices[device].is_broken) e = fake_cuda.error;
    *context = e == CUDA_SUCCESS ? (CUcontext)(void *)&contexts[device] : NULL;
    atomic_fetch_add(&fake_cuda.n_objects, e == CUDA_SUCCESS);
    return e;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device)
{
    atomic_fetch_sub(&fake_cuda.n_objects, 1);
    return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context)
{
    if (context) fake_cuda.last_device = (int)((char *)(void *)context - contexts);
    return called();
}

CUresult cuCtxSynchronize(void)
{
    return called();
}

CUresult cuModuleLoadData(CUmodule *module, const void *image)
{
    return create(module);
}

CUresult cuModuleUnload(CUmodule module)
{
    return destroy(module);
}

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    const struct emulated_kernel *k = emulator_run ? emulated_kernels : NULL;
    memcpy(function, &module, sizeof module); /* not NULL */
    if (k) {
        while (k->name && strcmp(k->name, name)) k++;
        if (!k->name) return CUDA_ERROR_NOT_FOUND;
        memcpy(function, &k, sizeof k);
    }
    return called();
}

CUresult cuFuncGetAttribute(int *value, CUfunction_attribute which, CUfunction function)
{
    *value = 0;
    return called();
}

CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute which, int value)
{
    return called();
}

/* ---- memory ---- */

CUresult cuMemGetInfo(size_t *free_bytes, size_t *total)
{
    *total = fake_cuda.total_bytes;
    *free_bytes =
        fake_cuda.total_bytes - atomic_load(&fake_cuda.n_bytes) - fake_cuda.devices[fake_cuda.last_device].used_bytes;
    return called();
}

CUresult cuMemAlloc(CUdeviceptr *p, size_t n_bytes)
{
    CUresult e = called();
    if (e != CUDA_SUCCESS) return e;
    if (atomic_load(&fake_cuda.n_bytes) + n_bytes > fake_cuda.total_bytes) return CUDA_ERROR_OUT_OF_MEMORY;
    char *block = aligned_alloc(HEAD, (HEAD + n_bytes + HEAD - 1) / HEAD * HEAD);
    memcpy(block, &n_bytes, sizeof n_bytes);
    atomic_fetch_add(&fake_cuda.n_bytes, n_bytes);
    atomic_fetch_add(&fake_cuda.n_objects, 1);
    *p = (CUdeviceptr)(block + HEAD);
    return CUDA_SUCCESS;
}

CUresult cuMemFree(CUdeviceptr p)
{
    size_t n_bytes;
    char *block = (char *)pointer(p) - HEAD;
    memcpy(&n_bytes, block, sizeof n_bytes);
    atomic_fetch_sub(&fake_cuda.n_bytes, n_bytes);
    return destroy(block);
}

CUresult cuMemHostAlloc(void **p, size_t n_bytes, unsigned flags)
{
    CUresult e = called();
    if (e != CUDA_SUCCESS) return e;
    *p = malloc(n_bytes);
    atomic_fetch_add(&fake_cuda.n_objects, 1);
    return CUDA_SUCCESS;
}

CUresult cuMemFreeHost(void *p)
{
    return destroy(p);
}

/* ---- recording ---- */

struct operation {
    const struct emulated_kernel *kernel; /* NULL: a copy */
    struct emulated_launch launch;
    union {
        unsigned char parameter[EMULATOR_PARAMETER_BYTES];
        struct {
            void *to;
            const void *from;
            size_t n_bytes;
        } copy;
    };
};

struct recording {
    int n_users, n; /* users: the graph, and its instances */
    struct operation *operations;
};
/* While it is set, the thread's launches are recorded, on every stream, in the order of the calls. */
static _Thread_local struct recording *recording;

static void execute(const struct operation *o)
{
    if (o->kernel)
        emulator_run(o->kernel, &o->launch, o->parameter);
    else
        memmove(o->copy.to, o->copy.from, o->copy.n_bytes);
}

static void launch(const struct operation *o)
{
    struct recording *r = recording;
    if (!r) {
        execute(o);
        return;
    }
    r->operations = realloc(r->operations, (size_t)(r->n + 1) * sizeof *o);
    r->operations[r->n++] = *o;
}

static void leave(struct recording *r)
{
    atomic_fetch_sub(&fake_cuda.n_objects, 1);
    if (--r->n_users) return;
    free(r->operations);
    free(r);
}

static CUresult copy(void *to, const void *from, size_t n_bytes)
{
    CUresult e = called();
    if (e == CUDA_SUCCESS) launch(&(struct operation){.copy = {to, from, n_bytes}});
    return e;
}

CUresult cuMemcpyHtoD(CUdeviceptr to, const void *from, size_t n_bytes)
{
    return copy(pointer(to), from, n_bytes);
}

CUresult cuMemcpyHtoDAsync(CUdeviceptr to, const void *from, size_t n_bytes, CUstream stream)
{
    return copy(pointer(to), from, n_bytes);
}

CUresult cuMemcpyDtoH(void *to, CUdeviceptr from, size_t n_bytes)
{
    return copy(to, pointer(from), n_bytes);
}

CUresult cuMemcpyDtoD(CUdeviceptr to, CUdeviceptr from, size_t n_bytes)
{
    return copy(pointer(to), pointer(from), n_bytes);
}

CUresult cuMemsetD8Async(CUdeviceptr p, unsigned char value, size_t n_bytes, CUstream stream)
{
    return cuMemsetD8(p, value, n_bytes);
}

CUresult cuMemsetD8(CUdeviceptr p, unsigned char value, size_t n_bytes)
{
    CUresult e = called();
    if (e == CUDA_SUCCESS) memset(pointer(p), value, n_bytes);
    return e;
}

CUresult cuMemsetD32(CUdeviceptr p, unsigned value, size_t n)
{
    CUresult e = called();
    for (size_t i = 0; e == CUDA_SUCCESS && i < n; i++) memcpy((char *)pointer(p) + i * 4, &value, 4);
    return e;
}

/* ---- streams, events, graphs ---- */

CUresult cuStreamCreate(CUstream *stream, unsigned flags)
{
    return create(stream);
}

CUresult cuStreamDestroy(CUstream stream)
{
    return destroy(stream);
}

CUresult cuStreamSynchronize(CUstream stream)
{
    return called();
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned flags)
{
    return called();
}

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode mode)
{
    CUresult e = called();
    if (e == CUDA_SUCCESS) recording = calloc(1, sizeof *recording);
    return e;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    CUresult e = called();
    struct recording *r = recording;
    recording = NULL;
    atomic_fetch_add(&fake_cuda.n_objects, 1);
    r->n_users = 1;
    if (e != CUDA_SUCCESS) leave(r), r = NULL;
    memcpy(graph, &r, sizeof r);
    return e;
}

CUresult cuEventCreate(CUevent *event, unsigned flags)
{
    return create(event);
}

CUresult cuEventDestroy(CUevent event)
{
    return destroy(event);
}

CUresult cuEventRecord(CUevent event, CUstream stream)
{
    return called();
}

CUresult cuEventSynchronize(CUevent event)
{
    return called();
}

CUresult cuEventElapsedTime(float *ms, CUevent from, CUevent to)
{
    *ms = 1;
    return called();
}

CUresult cuGraphInstantiate(CUgraphExec *exec, CUgraph graph, unsigned long long flags)
{
    CUresult e = called();
    *exec = NULL;
    if (e != CUDA_SUCCESS) return e;
    ((struct recording *)(void *)graph)->n_users++;
    atomic_fetch_add(&fake_cuda.n_objects, 1);
    memcpy(exec, &graph, sizeof graph);
    return e;
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream stream)
{
    return called();
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
    const struct recording *r = (void *)exec;
    CUresult e = called();
    for (int i = 0; e == CUDA_SUCCESS && i < r->n; i++) execute(&r->operations[i]);
    return e;
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
    leave((void *)exec);
    return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph)
{
    leave((void *)graph);
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **params, void **extra)
{
    const struct emulated_kernel *kernel = (void *)function;
    CUresult e = called();
    if (e != CUDA_SUCCESS || !emulator_run) return e;
    struct operation o = {
        .kernel = kernel,
        .launch = {{config->gridDimX, config->gridDimY, config->gridDimZ}, config->blockDimX, config->sharedMemBytes}};
    memcpy(o.parameter, params[0], kernel->parameter_bytes);
    launch(&o);
    return e;
}
