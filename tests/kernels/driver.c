#include "driver.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct driver cu;

#define NAME_OF(f)       #f
#define EXPANDED_NAME(f) NAME_OF(f) /* cuda.h maps cuMemAlloc to cuMemAlloc_v2 */

static int find(void *library, void *field, const char *name, const char **why)
{
    static char line[100];
    void *symbol = dlsym(library, name);
    memcpy(field, &symbol, sizeof symbol);
    if (symbol) return 0;
    snprintf(line, sizeof line, "the driver is too old: it has no %s", name);
    *why = line;
    return -1;
}

int driver_open(const char **why)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    *why = "no NVIDIA driver: libcuda.so.1 cannot be loaded";
    if (!library) return -1;
#define FIND(f)                                                                                                        \
    if (find(library, &cu.f, EXPANDED_NAME(f), why)) return -1;
    DRIVER_FUNCTIONS(FIND)
    return 0;
}

void driver_check(CUresult result, const char *call)
{
    if (result == CUDA_SUCCESS) return;
    const char *name = "?", *text = "?";
    cu.cuGetErrorName(result, &name);
    cu.cuGetErrorString(result, &text);
    fflush(stdout);
    fprintf(stderr, "%.60s: %s, %s\n", call, name, text);
    _Exit(1);
}
