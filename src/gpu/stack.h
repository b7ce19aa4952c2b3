/* A session's side of a tower: its K/V rings, the workspace of its passes, and the streams that they run on.
 *
 * Ownership of device memory:
 *   model      weights, slots for layers that are not resident (weights.h), norms (norms.h): immutable, shared
 *   session    struct gpu_rings: the keys and values that later passes read
 *   pass       struct gpu_workspace: no pass reads what another pass left there
 * Every session has a workspace of its own per tower all the same. Its passes are recorded as graphs, which hold
 * addresses; sessions run at the same time, each on its own streams; and a step leaves the next step under way
 * (session.h). With a shared workspace each pass would have to wait for the other sessions' passes. */
#ifndef SUR_GPU_STACK_H
#define SUR_GPU_STACK_H

#include <cuda.h>
#include <stdbool.h>

#include "gpu/driver.h"
#include "gpu/gemm.h"
#include "gpu/weights.h"
#include "model/backend.h"

/* The layers' keys and values: [n_layers][k, v], each as struct sur_gpu_ring has it. */
struct gpu_rings {
    CUdeviceptr memory;
    size_t n_bytes, layer_bytes; /* of all; of one layer's keys, and of its values */
    enum sur_kv_type kv;
    int n_blocks, dp; /* struct sur_gpu_ring */
    int max_blocks;   /* upper bound of the key blocks that 8 rows of queries see */
};

/* Buffers of a pass of at most max_n columns. "Halves" are bf16 [hi, lo][n][pitch] of the pass's n columns; fragments
 * are sur_gpu_fragment_at's, always of 8 columns. All are fp32 unless they say otherwise. */
struct gpu_workspace {
    CUdeviceptr memory;
    size_t n_bytes;
    CUdeviceptr position, rotation;                                 /* int64, of column 0; [max_n][head_dim / 2][2] */
    CUdeviceptr h, q;                                               /* [max_n][dim], [max_n][n_heads * head_dim] */
    CUdeviceptr halves, scale;                                      /* tiled products: input; its norms' scales [n] */
    CUdeviceptr attended, act;                                      /* halves: input of wo, of w2 */
    CUdeviceptr fragments, squares;                                 /* skinny products: h normed; [8][dim / 8] */
    CUdeviceptr attended_fragments, act_fragments, other_fragments; /* skinny: input of wo, of w2, of the rest */
    CUdeviceptr partial, counters;                                  /* attention: struct sur_gpu_attend */
    /* With NVIDIA's libraries, else empty. sums [hi, lo][n][rows], twice for SWIGLU, sums_bytes apart; keys and values
     * as struct sur_gpu_unroll has them; scores [n_heads][max_n][slots]. */
    CUdeviceptr library, sums, keys, values, scores;
    size_t sums_bytes;
};

/* One thread at a time. */
struct gpu_stack {
    struct gpu *gpu;
    const struct gpu_tower *tower;
    CUdeviceptr norms; /* the model's: the tower's own, or the decoder's for a delay (norms.h) */
    int max_n;         /* columns per pass */
    struct gpu_rings rings;
    struct gpu_workspace work;
    struct gpu_gemm *gemm; /* NULL: own products and attention */
    bool products_by_gemm, attention_by_gemm;
    CUstream stream, copy; /* copy: for layers that are not resident; else NULL */
    CUevent start, ready[GPU_SLOTS], used[GPU_SLOTS];
};

/* What a stack's size depends on besides its tower's shape. */
struct gpu_stack_size {
    int max_n; /* columns per pass */
    int slack; /* positions that the rings keep besides window and pass */
    /* the largest products outside the layers: columns x k of an input, columns x rows of an output */
    int columns, k, rows;
};

/* The options give the type of the rings, and which products and attention are computed by a library. norms: of the
 * model, must outlive the stack. After a failure gpu_stack_finish frees what there is. */
int gpu_stack_init(struct gpu_stack *stack, struct gpu *gpu, const struct gpu_tower *tower, CUdeviceptr norms,
                   const struct sur_model_options *options, const struct gpu_stack_size *size);
/* Waits for the stream first. A zeroed stack is allowed. */
void gpu_stack_finish(struct gpu_stack *stack);
/* Bytes of device memory that init would allocate. */
size_t gpu_stack_bytes(const struct sur_tower *shape, const struct sur_model_options *options,
                       const struct gpu_stack_size *size);

/* Queries' heads per K/V head. */
static inline int gpu_heads_per_group(const struct sur_tower *shape)
{
    return shape->n_heads / shape->n_kv_heads;
}
struct sur_gpu_ring gpu_stack_ring(const struct gpu_stack *stack, int layer);
/* Fills the rings for the window before position `end` with numbers that depend on positions alone, and waits. */
int gpu_stack_randomize(struct gpu_stack *stack, int64_t end);

#endif
