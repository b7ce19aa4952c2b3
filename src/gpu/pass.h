/* What a pass launches: products, and all layers of a tower, over one session's buffers. Launches only, on the stack's
 * stream; so the same calls run a pass or record it into a graph. */
#ifndef SUR_GPU_PASS_H
#define SUR_GPU_PASS_H

#include <cuda.h>
#include <stdbool.h>

#include "gpu/driver.h"
#include "gpu/weights.h"
#include "surtitle.h"

/* A session's side of a tower. One thread at a time. Addresses lie in one allocation. */
struct gpu_stack {
    struct gpu *gpu;
    const struct gpu_tower *tower;
    enum sur_kv_type kv;
    int max_n;         /* columns a pass */
    int n_blocks, dp;  /* of the rings (struct sur_gpu_ring) */
    int max_blocks;    /* blocks of keys that 16 rows may see */
    size_t ring_bytes; /* of one layer's keys, and of its values */
    CUdeviceptr memory;
    size_t n_bytes;
    CUdeviceptr rings;         /* [n_layers][k, v] */
    CUdeviceptr ffn_norms;     /* [n_layers][dim], folded for the delay; 0: the layers' own */
    CUdeviceptr h, q;          /* [max_n][dim], [max_n][heads * head_dim] */
    CUdeviceptr hi, lo;        /* bf16 [columns][pitch]: a wide product's input, the largest */
    CUdeviceptr attended_hi, attended_lo, act_hi, act_lo; /* the same of wide ones: bf16 [max_n][pitch] */
    CUdeviceptr rotation, position;                       /* [max_n][head_dim / 2][2], int64 */
    CUdeviceptr partial, counters;
    CUstream stream, copy; /* copy: layers that are not resident */
    CUevent start, ready[GPU_SLOTS], used[GPU_SLOTS];
};

/* split_columns x split_k: the largest wide input besides the tower's own. n_bytes is set even when it fails. */
int gpu_stack_init(struct gpu_stack *stack, struct gpu *gpu, const struct gpu_tower *tower, enum sur_kv_type kv,
                   int max_n, int slack, int split_columns, int split_k, bool folded);
void gpu_stack_finish(struct gpu_stack *stack);
/* Bytes that init would allocate. */
size_t gpu_stack_bytes(const struct sur_tower *shape, enum sur_kv_type kv, int max_n, int slack, int split_columns,
                       int split_k);

/* One pass over n columns. status is sticky: after a failure nothing more is launched. */
struct gpu_pass {
    struct gpu_stack *stack;
    int n, status;
    bool fresh; /* the next kernel depends on more than the one before it */
};

struct gpu_product {
    enum sur_gpu_epilogue epilogue;
    CUdeviceptr base;                  /* of the run of memory that w and w_up lie in */
    const struct gpu_matrix *w, *w_up; /* w_up: SWIGLU */
    struct sur_gpu_input in;           /* x 0: hi and lo hold it */
    CUdeviceptr hi, lo;
    struct sur_gpu_output out;
    int n;
};

void gpu_pass_launch(struct gpu_pass *pass, enum gpu_kernel kernel, const struct sur_gpu_launch *launch,
                     const void *params);
void gpu_pass_product(struct gpu_pass *pass, const struct gpu_product *product);
/* All layers over stack->h in place; the final norm is not included. */
void gpu_pass_tower(struct gpu_pass *pass);
/* Fills the rings for the window before `end` with numbers that depend on positions alone. */
int gpu_stack_randomize(struct gpu_stack *stack, int64_t end);

#endif
