/* What a pass launches: products, and all layers of a tower, over one stack's buffers. Every call only launches on the
 * stack's stream, so the same calls run a pass or record it into a graph.
 *
 * A pass of up to 8 columns is skinny: its products are skinny products, and the kernel that writes h also splits it
 * for the product that follows (kernels/launch.h). Other passes use tiled products. */
#ifndef SUR_GPU_PASS_H
#define SUR_GPU_PASS_H

#include <cuda.h>
#include <stdbool.h>

#include "gpu/stack.h"

/* Address of the low halves, which follow the high ones. */
static inline CUdeviceptr gpu_low_half(CUdeviceptr halves, int n, int pitch)
{
    return halves + (size_t)n * (size_t)pitch * 2;
}

/* One pass over n columns. */
struct gpu_pass {
    struct gpu_stack *stack;
    int n;
    int status;      /* SUR_OK, or the first failure: nothing is launched after it */
    bool fresh;      /* the next kernel depends on more than the kernel before it */
    bool h_is_split; /* work.fragments and work.squares hold h */
};

struct gpu_product {
    enum sur_gpu_epilogue epilogue;
    CUdeviceptr base;                  /* what the matrices' offsets count from */
    const struct gpu_matrix *w, *w_up; /* w_up: SWIGLU, else NULL */
    struct sur_gpu_input in;           /* the input, to be split; in.x 0: it is split already, at hi */
    CUdeviceptr hi, squares;           /* skinny: fragments, and squares or 0; tiled: halves */
    float eps;                         /* with squares */
    struct sur_gpu_output out;
    int n;
};

/* Whether a product of n columns runs on the skinny kernels. */
bool gpu_pass_is_skinny(const struct gpu_pass *pass, int n);
void gpu_pass_launch(struct gpu_pass *pass, enum gpu_kernel kernel, const struct sur_gpu_launch *launch,
                     const void *params);
void gpu_pass_product(struct gpu_pass *pass, const struct gpu_product *product);
/* The norm before a layer's attention or its ffn. Layer n_layers, ffn false: the norm behind the last layer. */
CUdeviceptr gpu_pass_norm(const struct gpu_stack *stack, int layer, bool ffn);
/* The output of a product whose result is h. In a skinny pass h is also split, times `norm`, the norm that follows. */
struct sur_gpu_output gpu_pass_to_h(struct gpu_pass *pass, CUdeviceptr norm);
/* All layers over work.h, in place, without the norm behind the last one (for which a skinny pass splits h). */
void gpu_pass_tower(struct gpu_pass *pass);

#endif
