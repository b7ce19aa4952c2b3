/* A checkpoint in Mistral's layout: params.json, tekken.json, consolidated.safetensors. Immutable once open, shared by
 * all sessions and threads. Opening maps the weights and touches no more than their header. */
#ifndef SUR_MODEL_CHECKPOINT_H
#define SUR_MODEL_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "model/blocks.h"
#include "model/params.h"

/* A matrix where it lies: [rows, cols], row r at data + r * row_bytes. A vector is one row. */
struct sur_view {
    enum sur_weight_type type;
    int rows, cols;
    size_t row_bytes;
    const void *data;   /* even address, no other alignment promised */
    const void *scales; /* NULL for bf16 */
    int group;          /* 0 for bf16 */
};

struct sur_layer {
    struct sur_view wq, wk, wv, wo;       /* [heads * d, dim], [kv_heads * d, dim] x 2, [dim, heads * d]; d: head_dim */
    struct sur_view bq, bv, bo;           /* [1, rows of wq, wv, wo]; encoder only, else data NULL */
    struct sur_view attention_norm, ffn_norm; /* [1, dim] */
    struct sur_view w1, w2, w3;           /* gate [hidden, dim], down [dim, hidden], up [hidden, dim] */
    struct sur_view b2;                   /* [1, dim]; encoder only */
    struct sur_view ada0, ada2;           /* [ada, dim], [dim, ada]; decoder only */
};

struct sur_weights {
    struct sur_view conv0, conv0_bias;    /* [e, n_mels * 3] (input channel major, tap minor), [1, e] */
    struct sur_view conv1, conv1_bias;    /* [e, e * 3], [1, e] */
    struct sur_layer *encoder;            /* [encoder.n_layers] */
    struct sur_view encoder_norm;         /* [1, e] */
    struct sur_view adapter0, adapter2;   /* [dim, 4 e], [dim, dim] */
    struct sur_view embedding;            /* [vocab, dim], also the head */
    struct sur_layer *decoder;            /* [decoder.n_layers] */
    struct sur_view norm;                 /* [1, dim] */
};

struct sur_tekken;
struct sur_safetensors;

struct sur_checkpoint {
    struct sur_params params;
    struct sur_weights weights;
    struct sur_tekken *tekken;
    struct sur_safetensors *file;
};

/* SUR_ERR_MODEL with one line that names the file and what is wrong with it; SUR_ERR_MEMORY. */
int sur_checkpoint_open(struct sur_checkpoint **checkpoint, const char *dir);
void sur_checkpoint_close(struct sur_checkpoint **checkpoint);

#endif
