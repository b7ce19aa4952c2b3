/* The list of the model's tensors: name in both layouts of a checkpoint, shape, and view. */
#ifndef SUR_MODEL_LAYOUT_H
#define SUR_MODEL_LAYOUT_H

#include <stdint.h>

#include "model/params.h"
#include "model/weights.h"

enum sur_layout { SUR_LAYOUT_MISTRAL, SUR_LAYOUT_GGUF, SUR_N_LAYOUTS };

enum sur_tensor_kind {
    SUR_TENSOR_VECTOR, /* norms and biases */
    SUR_TENSOR_CONV,   /* [channels, channels before, 3] */
    SUR_TENSOR_MATRIX,
    SUR_TENSOR_ATTENTION_OUT, /* a matrix; files of mixed types keep more bits for this kind and the next */
    SUR_TENSOR_EMBEDDING,
};

struct sur_layout_tensor {
    char name[SUR_N_LAYOUTS][128];
    enum sur_tensor_kind kind;
    int n_dims;
    int64_t shape[3];
    int head_dim;          /* not 0: GGUF files hold the rows of each head in halves order (view.h) */
    struct sur_view *view; /* in the caller's weights */
};

int sur_layout_count(const struct sur_params *params);
/* Describes tensor i. weights->encoder and weights->decoder must be allocated. */
void sur_layout_tensor(const struct sur_params *params, struct sur_weights *weights, int i,
                       struct sur_layout_tensor *tensor);

#endif
