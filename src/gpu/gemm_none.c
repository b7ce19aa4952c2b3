#include "gpu/gemm.h"

#include "util/error.h"

int gpu_gemm_open(enum sur_gemm products, enum sur_window_attention attention)
{
    if (products == SUR_GEMM_OWN && attention == SUR_ATTENTION_OWN) return SUR_OK;
    return sur_fail(SUR_ERR_ARGUMENT, "this build of the CUDA backend has only its own products and attention");
}

int gpu_gemm_create(struct gpu_gemm **gemm, enum sur_gemm products, enum sur_window_attention attention,
                    CUstream stream, CUdeviceptr workspace)
{
    *gemm = NULL;
    return SUR_OK;
}

void gpu_gemm_destroy(struct gpu_gemm *gemm) {}

int gpu_gemm_product(struct gpu_gemm *gemm, CUdeviceptr w, CUdeviceptr x, CUdeviceptr y, int rows, int k, int n)
{
    return SUR_ERR_BACKEND; /* not called: open failed */
}

int gpu_gemm_heads(struct gpu_gemm *gemm, struct gpu_gemm_heads w, struct gpu_gemm_heads x, struct gpu_gemm_heads y,
                   int rows, int k, int n, int n_heads)
{
    return SUR_ERR_BACKEND;
}
