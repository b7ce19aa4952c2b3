/* Every size of the model, and params.json, which holds them in Mistral's layout. Checked against docs/contract.md;
 * nothing is assumed. Immutable. */
#ifndef SUR_MODEL_PARAMS_H
#define SUR_MODEL_PARAMS_H

#include <stddef.h>
#include <stdint.h>

/* The bounds of what a file may ask for; the architecture's own sizes are far below. */
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
    int window;       /* key j is seen by query i when 0 <= i - j < window */
    double rope_theta, norm_eps;
};

struct sur_params {
    struct sur_tower encoder, decoder;
    int vocab_size, ada_dim;
    int n_mels, downsample; /* 4 encoder frames make one row */
    double log_mel_max;     /* global_log_mel_max */
};

/* Parses the text of params.json (n_bytes, not necessarily terminated). SUR_ERR_MODEL names the key that is wrong. */
int sur_params_parse(struct sur_params *params, const char *json, size_t n_bytes);
/* What any layout must keep to beyond the bounds of each size. path begins the error line, as in "params.json: ". */
int sur_params_check_tower(const struct sur_tower *tower, const char *path);
int sur_params_check(const struct sur_params *params, const char *path);

#endif
