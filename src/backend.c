/* Chooses a backend; the only file that knows which ones exist. */
#include "model/backend.h"

#include <stdio.h>

#include "gpu/load.h"
#include "util/error.h"
#include "util/log.h"

static int load_cuda(const struct sur_backend **backend, char *why, size_t why_bytes)
{
    return sur_gpu_load(backend, NULL, why, why_bytes);
}

static int load_cpu(const struct sur_backend **backend, char *why, size_t why_bytes)
{
    (void)why;
    (void)why_bytes;
    *backend = &sur_backend_cpu;
    return SUR_OK;
}

/* In the order in which auto tries them. Nothing of a backend is loaded before its turn. */
static const struct {
    enum sur_backend_kind kind;
    const char *name;
    int (*load)(const struct sur_backend **backend, char *why, size_t why_bytes);
} table[] = {
    {SUR_BACKEND_CUDA, "cuda", load_cuda},
    {SUR_BACKEND_CPU, "cpu", load_cpu},
};

int sur_backend_choose(const struct sur_backend **backend, enum sur_backend_kind kind)
{
    char why[480] = "";
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (kind != SUR_BACKEND_AUTO && kind != table[i].kind) continue;
        int r = table[i].load(backend, why, sizeof why);
        if (!r) r = (*backend)->probe(why, sizeof why);
        if (!r) return SUR_OK;
        if (kind != SUR_BACKEND_AUTO)
            return sur_fail(SUR_ERR_BACKEND, "backend %s cannot be used: %s", table[i].name, why);
        sur_log(SUR_LOG_INFO, "backend %s cannot be used: %s", table[i].name, why);
    }
    return sur_fail(SUR_ERR_BACKEND, "no usable backend: %s", why);
}
