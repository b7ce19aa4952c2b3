/* A libcuda that computes nothing: memory is the host's, kernels do not run, any call fails when a test says so. It
 * stands for the driver in tests of what the module does on the host: each entry point that the module calls is here.
 */
#include "fake_cuda.h"

#include <stdlib.h>
#include <string.h>

struct fake_cuda fake_cuda = {.error = CUDA_ERROR_ILLEGAL_ADDRESS, .total_bytes = (size_t)1 << 32};

/* For programs that cannot be told otherwise. */
__attribute__((constructor)) static void read_environment(void)
{
    const char *at = getenv("FAKE_CUDA_FAIL_AT");
    if (!at) return;
    fake_cuda.fail_at = atoi(at);
    fake_cuda.for_good = 1;
}

enum { HEAD = 256 }; /* before an allocation: its size; as aligned as the real driver's */

static CUresult called(void)
{
    int n = atomic_fetch_add(&fake_cuda.n_calls, 1) + 1, at = fake_cuda.fail_at;
    return at && (n == at || (n > at && fake_cuda.for_good)) ? fake_cuda.error : CUDA_SUCCESS;
}

/* An object without contents, of whatever kind. */
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
    *n = 1;
    return called();
}

CUresult cuDeviceGet(CUdevice *device, int i)
{
    *device = i;
    return called();
}

CUresult cuDeviceGetName(char *name, int n_bytes, CUdevice device)
{
    strncpy(name, "a GPU that computes nothing", (size_t)n_bytes - 1);
    return called();
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device)
{
    CUresult e = called();
    if (e != CUDA_SUCCESS) return e;
    *value = which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR            ? 9
             : which == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT              ? 132
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
    static char primary;
    CUresult e = called();
    *context = e == CUDA_SUCCESS ? (CUcontext)(void *)&primary : NULL;
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
    memcpy(function, &module, sizeof module); /* anything but NULL */
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
    *free_bytes = fake_cuda.total_bytes - atomic_load(&fake_cuda.n_bytes);
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

static CUresult copy(void *to, const void *from, size_t n_bytes)
{
    CUresult e = called();
    if (e == CUDA_SUCCESS) memmove(to, from, n_bytes);
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
    return called();
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph)
{
    return create(graph);
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
    return create(exec);
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream stream)
{
    return called();
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream)
{
    return called();
}

CUresult cuGraphExecDestroy(CUgraphExec exec)
{
    return destroy(exec);
}

CUresult cuGraphDestroy(CUgraph graph)
{
    return destroy(graph);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **params, void **extra)
{
    return called();
}
