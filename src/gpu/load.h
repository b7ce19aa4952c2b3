/* The library's side of the border (gpu/module.h): finds and opens the CUDA module, so that one program runs with and
 * without an NVIDIA driver. */
#ifndef SUR_GPU_LOAD_H
#define SUR_GPU_LOAD_H

#include <stddef.h>

#include "gpu/module.h"

/* Opens the module and sets *backend to its table, which stays valid until the process ends: a module is never closed.
 * path NULL: the place that docs/contract.md names; tests give a path. Returns SUR_OK, or SUR_ERR_BACKEND with the
 * reason in why: no module there, no driver, not a module, another version. Thread-safe; may be called repeatedly. */
int sur_gpu_load(const struct sur_backend **backend, const char *path, char *why, size_t why_bytes);

/* What every module is given. A test may set may_allocate before it opens anything. */
extern struct sur_gpu_services sur_gpu_services;

/* os_module.c. Writes the module's path. */
void sur_module_path(char *path, size_t path_bytes);
/* Loads the library at path. Returns the address of `symbol`, or NULL with the reason in why. */
void *sur_module_symbol(const char *path, const char *symbol, char *why, size_t why_bytes);

#endif
