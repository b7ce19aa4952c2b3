/* What a pass launches: products, and all layers of a tower, over one session's buffers. Launches only, on the stack's
 * stream; so the same calls run a pass or record it into a graph.
 *
 * A pass of up to 8 columns is skinny: who writes h splits it for the product that follows (kernels/launch.h). */
#ifndef SUR_GPU_PASS_H
#define SUR_GPU_PASS_H

#include <cuda.h>
#include <stdbool.h>

#include "gpu/driver.h"
#include "gpu/gemm.h"
#include "gpu/weights.h"
#include "model/backend.h"

/* A session's side of a tower. One thread at a time. Addresses lie in one allocation. */
struct gpu_stack {
    struct gpu *gpu;
    const struct gpu_tower *tower;
    enum sur_kv_type kv;
    int max_n;         /* columns a pass */
    int n_blocks, dp;  /* of the rings (struct sur_gpu_ring) */
    int max_blocks;    /* no fewer blocks of keys than 8 rows may see */
    size_t ring_bytes; /* of one layer's keys, and of its values */
    CUdeviceptr memory;
    size_t n_bytes;
    CUdeviceptr rings;         /* [n_layers][k, v] */
    CUdeviceptr norms;         /* [n_layers][attention, ffn (folded for the delay)][dim], [dim] what follows */
    CUdeviceptr h, q;          /* [max_n][dim], [max_n][heads * head_dim] */
    CUdeviceptr halves, scale; /* bf16 [hi, lo][n][pitch] of a pass's n columns: a product's input, the largest; [n] */
    CUdeviceptr attended, act; /* the same of products that find it split */
    CUdeviceptr fragments, squares; /* skinny: h split and normed, of 8 columns; [8][dim / 8] */
    CUdeviceptr attended_fragments, act_fragments, other_fragments; /* skinny: others' inputs, split */
    CUdeviceptr rotation, position;                                 /* [max_n][head_dim / 2][2], int64 */
    CUdeviceptr partial, counters;
    /* A library's, where the options want it (else nothing): its sums [hi, lo][n][rows], SWIGLU's twice; attention's
     * keys and values (struct sur_gpu_unroll), scores [n_heads][max_n][slots] */
    struct gpu_gemm *gemm;
    CUdeviceptr workspace, sums, keys, values, scores;
    size_t sums_bytes; /* of one of the two */
    bool products_by_gemm, attention_by_gemm;
    CUstream stream, copy; /* copy: layers that are not resident */
    CUevent start, ready[GPU_SLOTS], used[GPU_SLOTS];
};

/* How large a stack is beside its tower's shape. */
struct gpu_stack_size {
    int max_n, slack;     /* columns a pass; positions that the rings keep beside window and pass */
    int columns, k, rows; /* columns x k: the largest product's input besides the tower's own; x rows: its output */
};

/* The options say kv, and whose products and attention. n_bytes is set even when it fails. */
int gpu_stack_init(struct gpu_stack *stack, struct gpu *gpu, const struct gpu_tower *tower,
                   const struct sur_backend_options *options, const struct gpu_stack_size *size);
void gpu_stack_finish(struct gpu_stack *stack);
/* Bytes that init would allocate. */
size_t gpu_stack_bytes(const struct sur_tower *shape, const struct sur_backend_options *options,
                       const struct gpu_stack_size *size);

/* Where the low halves lie behind the high ones. */
static inline CUdeviceptr gpu_low_half(CUdeviceptr halves, int n, int pitch)
{
    return halves + (size_t)n * (size_t)pitch * 2;
}

/* One pass over n columns. status is sticky: after a failure nothing more is launched. */
struct gpu_pass {
    struct gpu_stack *stack;
    int n, status;
    bool fresh;      /* the next kernel depends on more than the one before it */
    bool h_is_split; /* fragments and squares hold h */
};

struct gpu_product {
    enum sur_gpu_epilogue epilogue;
    CUdeviceptr base;                  /* of the run of memory that w and w_up lie in */
    const struct gpu_matrix *w, *w_up; /* w_up: SWIGLU */
    struct sur_gpu_input in;           /* x 0: hi holds it (skinny: fragments; tiled: lo lies behind hi) */
    CUdeviceptr hi, squares;
    float eps; /* with squares */
    struct sur_gpu_output out;
    int n;
};

/* Whether so many columns go by our own skinny kernels. */
bool gpu_pass_is_skinny(const struct gpu_pass *pass, int n);
void gpu_pass_launch(struct gpu_pass *pass, enum gpu_kernel kernel, const struct sur_gpu_launch *launch,
                     const void *params);
void gpu_pass_product(struct gpu_pass *pass, const struct gpu_product *product);
/* The norms before a layer's attention and its ffn; attention's behind the last layer is of what follows. */
CUdeviceptr gpu_pass_norm(const struct gpu_stack *stack, int layer, bool ffn);
/* Where a product's result becomes h; of a skinny pass h is also split, times the norm that follows. */
struct sur_gpu_output gpu_pass_to_h(struct gpu_pass *pass, CUdeviceptr norm);
/* All layers over stack->h in place; the final norm is not included, but of a skinny pass h is split for it. */
void gpu_pass_tower(struct gpu_pass *pass);
/* Fills the rings for the window before `end` with numbers that depend on positions alone. */
int gpu_stack_randomize(struct gpu_stack *stack, int64_t end);

#endif
