/* The tensors of a model, as views. */
#ifndef SUR_MODEL_WEIGHTS_H
#define SUR_MODEL_WEIGHTS_H

#include "model/view.h"

struct sur_layer {
    struct sur_view wq, wk, wv, wo; /* [heads * d, dim], [kv_heads * d, dim] x 2, [dim, heads * d]; d: head_dim */
    struct sur_view bq, bv, bo;     /* [1, rows of wq, wv, wo]; encoder only, else data NULL */
    struct sur_view attention_norm, ffn_norm; /* [1, dim] */
    struct sur_view w1, w2, w3;               /* gate [hidden, dim], down [dim, hidden], up [hidden, dim] */
    struct sur_view b2;                       /* [1, dim]; encoder only */
    struct sur_view ada0, ada2;               /* [ada, dim], [dim, ada]; decoder only */
};

struct sur_weights {
    struct sur_view conv0, conv0_bias;  /* [e, n_mels * 3] (input channel major, tap minor), [1, e] */
    struct sur_view conv1, conv1_bias;  /* [e, e * 3], [1, e] */
    struct sur_layer *encoder;          /* [encoder.n_layers] */
    struct sur_view encoder_norm;       /* [1, e] */
    struct sur_view adapter0, adapter2; /* [dim, 4 e], [dim, dim] */
    struct sur_view embedding;          /* [vocab, dim], also the head */
    struct sur_layer *decoder;          /* [decoder.n_layers] */
    struct sur_view norm;               /* [1, dim] */
};

#endif
