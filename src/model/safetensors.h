/* A safetensors file, mapped read-only. The header is not trusted: docs/contract.md has the bounds that are checked.
 *
 * Ownership: tensors point into the map and are valid until close.
 * Thread-safety: any thread may read after open. */
#ifndef SUR_MODEL_SAFETENSORS_H
#define SUR_MODEL_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "model/tensor.h"

struct sur_safetensors;

/* Maps the file and checks the whole header; reads no tensor. SUR_ERR_MODEL, SUR_ERR_MEMORY. */
int sur_safetensors_open(struct sur_safetensors **file, const char *path);
void sur_safetensors_close(struct sur_safetensors **file);
const struct sur_tensor *sur_safetensors_find(const struct sur_safetensors *file, const char *name); /* NULL: none */
size_t sur_safetensors_count(const struct sur_safetensors *file);
/* For the fuzzer: parses the header json, which describes data_bytes of data. Same errors. */
int sur_safetensors_parse(struct sur_safetensors **file, const char *json, size_t json_bytes, const void *data,
                          uint64_t data_bytes);

#endif
