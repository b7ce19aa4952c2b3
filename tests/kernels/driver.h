/* The CUDA driver, opened at run time, so that the program also starts where there is none. cu.cuMemAlloc(...) calls a
 * function of it; CU(...) ends the process if the call fails. */
#ifndef SUR_TESTS_KERNELS_DRIVER_H
#define SUR_TESTS_KERNELS_DRIVER_H

#include <cuda.h>

/* clang-format off */
#define DRIVER_FUNCTIONS(X) \
    X(cuInit) X(cuDeviceGetCount) X(cuDeviceGet) X(cuDeviceGetName) X(cuDeviceGetAttribute) X(cuDriverGetVersion) \
    X(cuDevicePrimaryCtxRetain) X(cuDevicePrimaryCtxRelease) X(cuCtxSetCurrent) X(cuCtxSynchronize) \
    X(cuGetErrorName) X(cuGetErrorString) X(cuMemGetInfo) X(cuMemAlloc) X(cuMemFree) X(cuMemHostAlloc) \
    X(cuMemFreeHost) X(cuMemcpyHtoD) X(cuMemcpyDtoH) X(cuMemcpyDtoD) X(cuMemsetD32) \
    X(cuModuleLoadData) X(cuModuleUnload) X(cuModuleGetFunction) X(cuFuncSetAttribute) X(cuFuncGetAttribute) \
    X(cuLaunchKernelEx) X(cuStreamCreate) X(cuStreamSynchronize) X(cuStreamDestroy) X(cuStreamBeginCapture) \
    X(cuStreamEndCapture) X(cuGraphInstantiate) X(cuGraphLaunch) X(cuGraphExecDestroy) X(cuGraphDestroy) \
    X(cuEventCreate) X(cuEventRecord) X(cuEventElapsedTime) X(cuEventDestroy)
#define DRIVER_FIELD(f) __typeof__(&f) f;
/* clang-format on */

struct driver {
    DRIVER_FUNCTIONS(DRIVER_FIELD)
};
extern struct driver cu;

/* Returns 0, or -1 with one line in why: no driver, or one that is too old. */
int driver_open(const char **why);

#define CU(call) driver_check((call), #call)
void driver_check(CUresult result, const char *call);

#endif
