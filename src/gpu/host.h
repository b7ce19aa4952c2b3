/* What the module calls of whoever loaded it; sur_fail, sur_log and sur_clock_ns are the host's (host.c). */
#ifndef SUR_GPU_HOST_H
#define SUR_GPU_HOST_H

#include <stdbool.h>

#include "gpu/module.h"

void gpu_set_host(const struct sur_gpu_host *host);
bool gpu_may_allocate(size_t n_bytes);

#endif
