/* Chooses a backend; the only file that knows which ones exist. */
#include "model/backend.h"

#include <stdio.h>

#include "util/error.h"
#include "util/log.h"

/* In the order in which auto tries them. A backend that this build leaves out says so by its refusal. */
static const struct {
    enum sur_backend_kind kind;
    const char *name;
    const struct sur_backend *backend;
    const char *absent;
} table[] = {
    {SUR_BACKEND_CUDA, "cuda", NULL, "this build has no CUDA backend"},
    {SUR_BACKEND_CPU, "cpu", &sur_backend_cpu, ""},
};

int sur_backend_choose(const struct sur_backend **backend, enum sur_backend_kind kind)
{
    char why[256] = "";
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (kind != SUR_BACKEND_AUTO && kind != table[i].kind) continue;
        *backend = table[i].backend;
        if (table[i].backend && table[i].backend->probe(why, sizeof why) == SUR_OK) return SUR_OK;
        if (!table[i].backend) snprintf(why, sizeof why, "%s", table[i].absent);
        if (kind != SUR_BACKEND_AUTO)
            return sur_fail(SUR_ERR_BACKEND, "backend %s cannot be used: %s", table[i].name, why);
        sur_log(SUR_LOG_INFO, "backend %s cannot be used: %s", table[i].name, why);
    }
    return sur_fail(SUR_ERR_BACKEND, "no usable backend: %s", why);
}
