#include "gpu/load.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "gpu_abi.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

static int fail(int code, const char *line)
{
    return sur_fail(code, "%s", line);
}

static void log_line(enum sur_log_level level, const char *line)
{
    sur_log(level, "%s", line);
}

struct sur_gpu_services sur_gpu_services = {.fail = fail, .log = log_line, .clock_ns = sur_clock_ns};

int sur_gpu_load(const struct sur_backend **backend, const char *path, char *why, size_t why_bytes)
{
    char place[PATH_MAX];
    *backend = NULL;
    if (!path) {
        sur_module_path(place, sizeof place);
        path = place;
    }
    void *symbol = sur_module_symbol(path, "sur_backend_cuda", why, why_bytes);
    if (!symbol) return SUR_ERR_BACKEND;
    sur_backend_cuda_fn get;
    memcpy(&get, &symbol, sizeof get); /* ISO C knows no cast from an object's address to a function's */
    *backend = get(SUR_GPU_ABI, &sur_gpu_services);
    if (*backend) return SUR_OK;
    snprintf(why, why_bytes, "%s is of another version of surtitle", path);
    return SUR_ERR_BACKEND;
}
