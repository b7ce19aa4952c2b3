/* The sizes of a model, and the parser of params.json, which holds them in Mistral's layout. docs/contract.md has the
 * bounds, all of which are checked. */
#ifndef SUR_MODEL_PARAMS_H
#define SUR_MODEL_PARAMS_H

#include <stddef.h>
#include <stdint.h>

/* Upper bounds of the sizes in a file; those of the published model are far below. */
enum {
    SUR_MAX_DIM = 65536,
    SUR_MAX_LAYERS = 256,
    SUR_MAX_HEADS = 1024,
    SUR_MAX_HEAD_DIM = 512,
    SUR_MAX_WINDOW = 1 << 20,
    SUR_MAX_VOCAB = 1 << 20,
    SUR_MAX_MELS = 512,
};

struct sur_tower { /* encoder or decoder */
    int dim, n_layers, head_dim, hidden_dim, n_heads, n_kv_heads;
    int window; /* query i sees key j if 0 <= i - j < window */
    double rope_theta, norm_eps;
};

struct sur_params {
    struct sur_tower encoder, decoder;
    int vocab_size, ada_dim;
    int n_mels;
    double log_mel_max; /* global_log_mel_max */
};

/* Parses the text of params.json (n_bytes, not necessarily terminated). SUR_ERR_MODEL names the key that is wrong. */
int sur_params_parse(struct sur_params *params, const char *json, size_t n_bytes);
/* Check the relations between sizes, for any layout. path begins the error line, as in "params.json: ". */
int sur_params_check_tower(const struct sur_tower *tower, const char *path);
int sur_params_check(const struct sur_params *params, const char *path);

#endif
