#include "gpu/load.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char installed[] = SUR_LIBDIR "/surtitle/surtitle-cuda.so", built[] = "src/gpu/surtitle-cuda.so";

static bool has(const char *folder, const char *file)
{
    char path[PATH_MAX];
    return snprintf(path, sizeof path, "%s/%s", folder, file) < (int)sizeof path && access(path, F_OK) == 0;
}

/* Programs lie in the build folder or at most two below it. Other projects' build folders do not hold our library. */
static bool build_folder(char *folder, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", folder, size - 1);
    if (n <= 0) return false;
    folder[n] = 0;
    for (int above = 0; above < 3; above++) {
        char *slash = strrchr(folder, '/');
        if (!slash || slash == folder) return false;
        *slash = 0;
        if (has(folder, "meson-private") && has(folder, "src/libsurtitle.so")) return true;
    }
    return false;
}

void sur_module_path(char *path, size_t path_bytes)
{
    char folder[PATH_MAX];
    if (!build_folder(folder, sizeof folder) || snprintf(path, path_bytes, "%s/%s", folder, built) >= (int)path_bytes)
        snprintf(path, path_bytes, "%s", installed);
}

void *sur_module_symbol(const char *path, const char *symbol, char *why, size_t why_bytes)
{
    if (access(path, F_OK) != 0) {
        snprintf(why, why_bytes, "there is no module %s", path);
        return NULL;
    }
    void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL), *address = module ? dlsym(module, symbol) : NULL;
    if (address) return address;
    const char *error = dlerror();
    if (!module && error && strncmp(error, "libcuda.so.1:", 13) == 0)
        snprintf(why, why_bytes, "no NVIDIA driver: %s", error);
    else
        snprintf(why, why_bytes, "%s", error ? error : path); /* names the file, and what is wrong with it */
    if (module) dlclose(module);
    return NULL;
}
