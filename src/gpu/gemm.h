/* Products by NVIDIA's libraries (--gemm lt|blas, --window-attention gemm), to compare ours with. They have no fixed
 * order of summation: bits change with shapes and versions. Implemented by gemm.c or, in a build without the libraries'
 * headers, by gemm_none.c. */
#ifndef SUR_GPU_GEMM_H
#define SUR_GPU_GEMM_H

#include <cuda.h>
#include <stddef.h>

#include "surtitle.h"

enum { GPU_GEMM_WORKSPACE = 32 << 20 }; /* bytes; what the libraries recommend for 9.0 */

/* For one stream. One thread at a time. */
struct gpu_gemm;

/* Opens the libraries that the options need, once per process. Thread-safe. SUR_ERR_ARGUMENT with a line that names the
 * library: it cannot be opened. */
int gpu_gemm_open(enum sur_gemm products, enum sur_window_attention attention);

/* After gpu_gemm_open, with the context current. *gemm is NULL if no library is needed. The stream and the workspace,
 * GPU_GEMM_WORKSPACE bytes on the device, must outlive it. SUR_ERR_MEMORY, SUR_ERR_BACKEND. */
int gpu_gemm_create(struct gpu_gemm **gemm, enum sur_gemm products, enum sur_window_attention attention,
                    CUstream stream, CUdeviceptr workspace);
void gpu_gemm_destroy(struct gpu_gemm *gemm);

/* y [n][rows] fp32 = x [n][k] times w [rows][k] transposed, both bf16. Addresses divisible by 256. */
int gpu_gemm_product(struct gpu_gemm *gemm, CUdeviceptr w, CUdeviceptr x, CUdeviceptr y, int rows, int k, int n);

/* One fp32 matrix per head: rows are `stride` elements apart, heads `step`. */
struct gpu_gemm_heads {
    CUdeviceptr at;
    int stride;
    long long step;
};
/* For each of n_heads: y [n][rows] = x [n][k] times w [rows][k] transposed. */
int gpu_gemm_heads(struct gpu_gemm *gemm, struct gpu_gemm_heads w, struct gpu_gemm_heads x, struct gpu_gemm_heads y,
                   int rows, int k, int n, int n_heads);

#endif
