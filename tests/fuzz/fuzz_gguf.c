/* A GGUF file: accepted tensors must lie inside it; then its model parameters and its vocabulary are read. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"
#include "model/gguf_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static void check(const struct sur_gguf *file, const uint8_t *data, size_t size, const char *name)
{
    const struct sur_tensor *t = sur_gguf_tensor(file, name);
    unsigned sum = 0;
    if (!t) return;
    if (t->n_bytes > size || (const uint8_t *)t->data < data || (const uint8_t *)t->data + t->n_bytes > data + size)
        abort();
    for (uint64_t i = 0; i < t->n_bytes; i++) sum += ((const uint8_t *)t->data)[i]; /* read, for the sanitizer */
    volatile unsigned kept = sum;
    (void)kept;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    struct sur_gguf *file = NULL;
    struct sur_params params;
    struct sur_tekken *tekken = NULL;
    uint8_t *data = aligned_alloc(8, (size + 8) / 8 * 8);
    if (!data) return 0;
    memcpy(data, input, size);
    if (sur_gguf_parse(&file, "x.gguf", data, size) == 0) {
        const char *const names[] = {"a", "t", "frontend.window", "dec.output_norm.weight"};
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) check(file, data, size, names[i]);
        if (sur_gguf_params(file, &params) == 0 && params.vocab_size < 4096 && params.n_mels <= 8 &&
            sur_gguf_check_tables(file, &params) == 0)
            sur_gguf_tekken(file, &params, &tekken);
    } else if (file) {
        abort();
    }
    sur_tekken_destroy(&tekken);
    sur_gguf_close(&file);
    free(data);
    return 0;
}
