/* The core's side of the border (gpu/module.h): finds and opens the CUDA module, so that one program runs with and
 * without an NVIDIA driver. */
#ifndef SUR_GPU_LOAD_H
#define SUR_GPU_LOAD_H

#include <stddef.h>

#include "gpu/module.h"

/* *backend is the module's table, for as long as the process lives: a module is never closed. path NULL: the place of
 * docs/contract.md; a path is for tests. SUR_ERR_BACKEND with one reason in why: no module there, no driver, not a
 * module, one of another version. May be called from any thread and any number of times. */
int sur_gpu_load(const struct sur_backend **backend, const char *path, char *why, size_t why_bytes);

/* What modules are given. Tests put may_allocate there before anything is opened. */
extern struct sur_gpu_host sur_gpu_host;

/* os_module.c: the module's place, with what belongs to one system. */
void sur_module_path(char *path, size_t path_bytes);
/* The address of `symbol` in the library at path, or NULL and the reason in why. */
void *sur_module_symbol(const char *path, const char *symbol, char *why, size_t why_bytes);

#endif
