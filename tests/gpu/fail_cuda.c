/* Preloaded before the driver: breaks a real device during captions. Instead of graph launch number FAIL_CUDA_AT it
 * runs a kernel that writes to an invalid address. */
#include <cuda.h>
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static const char ptx[] =
    ".version 7.0\n.target sm_80\n.address_size 64\n"
    ".visible .entry broken()\n{\n.reg .u64 %p;\nmov.u64 %p, 64;\nst.global.u64 [%p], %p;\nret;\n}\n";

/* The driver's own function: the library is loaded already, but its symbols are not global. */
static void *driver(const char *name)
{
    return dlsym(dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD), name);
}

static CUresult run_broken(CUstream stream)
{
    CUresult (*load)(CUmodule *, const void *), (*find)(CUfunction *, CUmodule, const char *);
    CUresult (*launch)(CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream,
                       void **, void **);
    void *f[] = {driver("cuModuleLoadData"), driver("cuModuleGetFunction"), driver("cuLaunchKernel")};
    CUmodule module;
    CUfunction broken;
    memcpy(&load, &f[0], sizeof load);
    memcpy(&find, &f[1], sizeof find);
    memcpy(&launch, &f[2], sizeof launch);
    CUresult e = load(&module, ptx);
    if (!e) e = find(&broken, module, "broken");
    return e ? e : launch(broken, 1, 1, 1, 1, 1, 1, 0, stream, NULL, NULL);
}

CUresult cuGraphLaunch(CUgraphExec graph, CUstream stream)
{
    static atomic_int n;
    const char *at = getenv("FAIL_CUDA_AT");
    CUresult (*launch)(CUgraphExec, CUstream);
    void *f = driver("cuGraphLaunch");
    memcpy(&launch, &f, sizeof launch);
    return at && atomic_fetch_add(&n, 1) + 1 == atoi(at) ? run_broken(stream) : launch(graph, stream);
}
