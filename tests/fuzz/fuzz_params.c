/* params.json. Accepted values must be within the bounds that the rest of the program relies on. */
#include <stdint.h>
#include <stdlib.h>

#include "model/params.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

static int within(int value, int min, int max)
{
    return value >= min && value <= max;
}

static void check(const struct sur_tower *t)
{
    if (!within(t->dim, 1, 65536) || !within(t->hidden_dim, 1, 65536) || !within(t->n_layers, 1, 256)) abort();
    if (!within(t->head_dim, 2, 512) || t->head_dim % 2 || !within(t->window, 1, 1 << 20)) abort();
    if (!within(t->n_heads, 1, 1024) || !within(t->n_kv_heads, 1, t->n_heads) || t->n_heads % t->n_kv_heads) abort();
    if (!(t->rope_theta >= 1 && t->rope_theta <= 1e12) || !(t->norm_eps >= 0 && t->norm_eps <= 1)) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    struct sur_params p;
    if (sur_params_parse(&p, (const char *)input, size) != 0) return 0;
    check(&p.encoder);
    check(&p.decoder);
    if (!within(p.vocab_size, 2, 1 << 20) || !within(p.ada_dim, 1, 65536) || !within(p.n_mels, 1, 512)) abort();
    if (p.decoder.dim % 2 || !(p.log_mel_max >= -100 && p.log_mel_max <= 100)) abort();
    return 0;
}
