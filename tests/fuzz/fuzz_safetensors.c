/* The header of a safetensors file. Accepted tensors must lie inside the data. */
#include <stdint.h>
#include <stdlib.h>

#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static _Alignas(16) const unsigned char data[4096];

static void check(const struct sur_safetensors *file, const char *name)
{
    const struct sur_tensor *t = sur_safetensors_find(file, name);
    if (!t) return;
    uint64_t n_elements = 1;
    for (int i = 0; i < t->n_dims; i++) n_elements *= (uint64_t)t->shape[i];
    if (t->n_bytes < n_elements || t->n_bytes > sizeof data) abort();
    for (uint64_t i = 0; i < t->n_bytes; i++)
        if (((const unsigned char *)t->data)[i] != 0) abort(); /* read, for the sanitizer */
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    struct sur_safetensors *file = NULL;
    if (sur_safetensors_parse(&file, (const char *)input, size, data, sizeof data) == 0) {
        const char *const names[] = {"a", "b", "t", "norm.weight", "layers.0.attention.wq.weight"};
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) check(file, names[i]);
    } else if (file) {
        abort();
    }
    sur_safetensors_close(&file);
    return 0;
}
