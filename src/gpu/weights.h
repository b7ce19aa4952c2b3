/* The weights on the device: one allocation per layer, so that a layer can be copied at once.
 *
 * Matrices are bf16, in blocks of 8 rows x 64 of k (sur_gpu_weight_at), or row major for NVIDIA's libraries; both are
 * padded with zeros to whole blocks. wq, wk and wv are stacked into one matrix. Vectors are fp32. If the device is too
 * small, as many whole layers as fit are resident, the decoder's first. The others are in pinned host memory, in the
 * same form, and pass through two slots per tower. Norms are always resident, because a layer's products multiply by
 * the norms of the next layer. Immutable after open; any thread may read. */
#ifndef SUR_GPU_WEIGHTS_H
#define SUR_GPU_WEIGHTS_H

#include <cuda.h>
#include <stdbool.h>

#include "gpu/driver.h"
#include "model/checkpoint.h"

enum { GPU_SLOTS = 2 };

#define GPU_NONE SIZE_MAX /* the offset of a vector that does not exist */

struct gpu_matrix { /* offset: bytes from the start of its allocation */
    size_t offset;
    int rows, k, pitch; /* pitch: k rounded up to 64; rows are rounded up to 8 in memory */
    bool row_major;     /* [rows][pitch]; else in blocks */
};

struct gpu_layer_plan { /* offsets in bytes */
    struct gpu_matrix qkv, wo, w1, w3, w2;
    size_t bias_qkv, bias_o, bias_2;
    size_t n_bytes;
};

struct gpu_tower {
    const struct sur_tower *shape;
    const struct sur_layer *source; /* [n_layers], the checkpoint's */
    struct gpu_layer_plan plan;
    CUdeviceptr *layers;          /* [n_layers]; 0: in host memory */
    char **host_layers;           /* [n_layers] pinned, or NULL: on the card */
    CUdeviceptr slots[GPU_SLOTS]; /* 0 when all layers are resident */
    CUdeviceptr norms;            /* [n_layers][attention, ffn][dim], then [dim] behind the last layer; fp32 */
    CUdeviceptr inv;              /* [head_dim / 2] fp32 */
    int n_resident;
};

struct gpu_weights {
    struct gpu_tower encoder, decoder;
    /* the rest, one allocation */
    CUdeviceptr others;
    size_t others_bytes;
    struct gpu_matrix conv0, conv1, adapter0, adapter2, embedding;
    size_t conv0_bias, conv1_bias;
};

/* Bytes of a tower's norms. */
static inline size_t gpu_norms_bytes(const struct sur_tower *s)
{
    return ((size_t)s->n_layers * 2 + 1) * (size_t)s->dim * 4;
}
/* The norm [dim] before a layer's attention or its ffn. Layer n_layers, ffn false: the norm behind the last layer. */
static inline CUdeviceptr gpu_norm_at(CUdeviceptr norms, const struct sur_tower *s, int layer, bool ffn)
{
    return norms + ((size_t)layer * 2 + ffn) * (size_t)s->dim * 4;
}

/* Allocates and copies the weights, and leaves reserve_bytes free for a session. limit_bytes: how much may be used; 0:
 * all that is free. row_major: for NVIDIA's libraries; the embedding, which only kernels read, is packed all the same.
 * After a failure everything is freed: SUR_ERR_BACKEND (no room, or the device failed), SUR_ERR_MODEL (a matrix too
 * wide), SUR_ERR_MEMORY. */
int gpu_weights_open(struct gpu_weights *weights, struct gpu *gpu, const struct sur_checkpoint *checkpoint,
                     bool row_major, int64_t limit_bytes, size_t reserve_bytes);
void gpu_weights_close(struct gpu_weights *weights, struct gpu *gpu);

#endif
