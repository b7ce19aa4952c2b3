/* The module's side of struct sur_gpu_services: in the module sur_fail, sur_log and sur_clock_ns call the library that
 * loaded it (services.c). */
#ifndef SUR_GPU_SERVICES_H
#define SUR_GPU_SERVICES_H

#include <stdbool.h>

#include "gpu/module.h"

/* Once, before anything else of the module is called. */
void gpu_set_services(const struct sur_gpu_services *services);
/* False when a test lets this allocation fail. */
bool gpu_may_allocate(size_t n_bytes);

#endif
