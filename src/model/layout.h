/* Every tensor of the model: its name in both layouts of a checkpoint, its shape, and its view. */
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
    SUR_TENSOR_ATTENTION_OUT, /* a matrix, too; files of mixed types keep more bits for these two */
    SUR_TENSOR_EMBEDDING,
};

struct sur_layout_tensor {
    char name[SUR_N_LAYOUTS][128];
    enum sur_tensor_kind kind;
    int n_dims;
    int64_t shape[3];
    int head_dim;          /* of one whose rows are in halves order in GGUF files (view.h), else 0 */
    struct sur_view *view; /* in the weights given */
};

int sur_layout_count(const struct sur_params *params);
/* The i-th. weights: encoder and decoder must be allocated. */
void sur_layout_tensor(const struct sur_params *params, struct sur_weights *weights, int i,
                       struct sur_layout_tensor *tensor);

#endif
