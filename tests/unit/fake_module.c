/* Replaces the CUDA module in the tests of the loader; FAKE selects what. Without FAKE: a valid one, whose probe
 * refuses. */
#include <stdio.h>

#include "gpu/module.h"
#include "gpu_abi.h"

SUR_API const struct sur_backend *sur_backend_cuda(uint64_t abi, const struct sur_gpu_services *services);

static const struct sur_gpu_services *given;

static int probe(char *why, size_t why_bytes)
{
    given->log(SUR_LOG_INFO, "the fake's %s line"); /* not a format */
    snprintf(why, why_bytes, "clock %d", given->clock_ns() > 0);
    return given->fail(SUR_ERR_BACKEND, "the fake's %s refusal");
}

static const struct sur_backend fake = {.name = "fake", .probe = probe};

const struct sur_backend *sur_backend_cuda(uint64_t abi, const struct sur_gpu_services *services)
{
    given = services;
    return abi == SUR_GPU_ABI + FAKE_ABI ? &fake : NULL;
}
