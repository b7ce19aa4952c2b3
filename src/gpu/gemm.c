#include "gpu/gemm.h"

#include <cublasLt.h>
#include <cublas_v2.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"

/* ---- the libraries ---- */

/* clang-format off */
#define BLAS_FUNCTIONS(X) \
    X(cublasCreate) X(cublasDestroy) X(cublasSetStream) X(cublasSetWorkspace) X(cublasGemmEx) \
    X(cublasSgemmStridedBatched) X(cublasGetStatusString)
#define LT_FUNCTIONS(X) \
    X(cublasLtCreate) X(cublasLtDestroy) X(cublasLtMatmul) X(cublasLtMatmulAlgoGetHeuristic) \
    X(cublasLtMatmulDescCreate) X(cublasLtMatmulDescDestroy) X(cublasLtMatmulDescSetAttribute) \
    X(cublasLtMatrixLayoutCreate) X(cublasLtMatrixLayoutDestroy) X(cublasLtMatrixLayoutSetAttribute) \
    X(cublasLtMatmulPreferenceCreate) X(cublasLtMatmulPreferenceDestroy) X(cublasLtMatmulPreferenceSetAttribute) \
    X(cublasLtGetStatusString)
#define FIELD(f) __typeof__(&f) f;
/* clang-format on */
#define NAME_OF(f)       #f
#define EXPANDED_NAME(f) NAME_OF(f) /* cublas_v2.h maps cublasCreate to cublasCreate_v2 */

enum { NEWEST = 13, OLDEST = 12 }; /* major versions whose interface fits */

static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
/* Filled once, under the lock, before a session uses them. */
static struct {
    BLAS_FUNCTIONS(FIELD)
    bool ready;
} blas;
static struct {
    LT_FUNCTIONS(FIELD)
    bool ready;
} lt;

/* Opens the newest major version that the driver can serve, from where the dynamic loader looks. */
static void *open_newest(const char *option, const char *name)
{
    char file[64], why[300] = "";
    void *library = NULL;
    int driver = 0;
    cuDriverGetVersion(&driver);
    for (int major = driver / 1000 < NEWEST ? OLDEST : NEWEST; !library && major >= OLDEST; major--) {
        snprintf(file, sizeof file, "%s.so.%d", name, major);
        library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
        if (!library && !why[0]) snprintf(why, sizeof why, "%s", dlerror());
    }
    if (!library) sur_fail(SUR_ERR_ARGUMENT, "%s: %s", option, why);
    return library;
}

struct function {
    void *field;
    const char *name;
};
#define BLAS_ENTRY(f) {&blas.f, EXPANDED_NAME(f)},
#define LT_ENTRY(f)   {&lt.f, EXPANDED_NAME(f)},
static const struct function blas_functions[] = {BLAS_FUNCTIONS(BLAS_ENTRY){NULL, NULL}};
static const struct function lt_functions[] = {LT_FUNCTIONS(LT_ENTRY){NULL, NULL}};

/* Opens the library and fills the table; *ready: this was done before. Called with the lock held. */
static int open_library(const char *option, const char *name, const struct function *functions, bool *ready)
{
    void *library = *ready ? NULL : open_newest(option, name);
    if (*ready) return SUR_OK;
    if (!library) return SUR_ERR_ARGUMENT;
    for (const struct function *f = functions; f->name; f++) {
        void *symbol = dlsym(library, f->name);
        if (!symbol) return sur_fail(SUR_ERR_ARGUMENT, "%s: the library has no %s", option, f->name);
        memcpy(f->field, &symbol, sizeof symbol); /* ISO C has no cast from data to function */
    }
    *ready = true;
    return SUR_OK;
}

static int open_blas(const char *option)
{
    return open_library(option, "libcublas", blas_functions, &blas.ready);
}

int gpu_gemm_open(enum sur_gemm products, enum sur_window_attention attention)
{
    int r = SUR_OK;
    pthread_mutex_lock(&opening);
    if (products == SUR_GEMM_LT) r = open_library("--gemm lt", "libcublasLt", lt_functions, &lt.ready);
    if (products == SUR_GEMM_BLAS) r = open_blas("--gemm blas");
    if (!r && attention == SUR_ATTENTION_GEMM) r = open_blas("--window-attention gemm");
    pthread_mutex_unlock(&opening);
    return r;
}

static int check_blas(cublasStatus_t status, const char *call)
{
    if (status == CUBLAS_STATUS_SUCCESS) return SUR_OK;
    return sur_fail(SUR_ERR_BACKEND, "cuBLAS: %s: %s", call, blas.cublasGetStatusString(status));
}

static int check_lt(cublasStatus_t status, const char *call)
{
    if (status == CUBLAS_STATUS_SUCCESS) return SUR_OK;
    return sur_fail(SUR_ERR_BACKEND, "cuBLASLt: %s: %s", call, lt.cublasLtGetStatusString(status));
}

/* f(argument...) of the library; the failure names it. */
#define BLAS(f, ...) check_blas(blas.f(__VA_ARGS__), #f)
#define LT(f, ...)   check_lt(lt.f(__VA_ARGS__), #f)

/* ---- handles ---- */

struct gpu_gemm {
    CUstream stream;
    CUdeviceptr workspace;
    cublasHandle_t blas; /* NULL when neither products nor attention want it */
    cublasLtHandle_t lt; /* NULL when products do not want it; what follows is its */
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulPreference_t preference;
};

static int init_lt(struct gpu_gemm *g)
{
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const size_t most = GPU_GEMM_WORKSPACE;
    int r = LT(cublasLtCreate, &g->lt);
    if (!r) r = LT(cublasLtMatmulDescCreate, &g->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (!r)
        r = LT(cublasLtMatmulDescSetAttribute, g->operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
               sizeof transposed);
    if (!r) r = LT(cublasLtMatrixLayoutCreate, &g->w, CUDA_R_16BF, 1, 1, 1); /* sizes: for each product */
    if (!r) r = LT(cublasLtMatrixLayoutCreate, &g->x, CUDA_R_16BF, 1, 1, 1);
    if (!r) r = LT(cublasLtMatrixLayoutCreate, &g->y, CUDA_R_32F, 1, 1, 1);
    if (!r) r = LT(cublasLtMatmulPreferenceCreate, &g->preference);
    if (!r)
        r = LT(cublasLtMatmulPreferenceSetAttribute, g->preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &most,
               sizeof most);
    return r;
}

static int init_blas(struct gpu_gemm *g)
{
    int r = BLAS(cublasCreate, &g->blas);
    if (!r) r = BLAS(cublasSetStream, g->blas, g->stream);
    /* memory of ours, so that products can be recorded into a graph */
    if (!r) r = BLAS(cublasSetWorkspace, g->blas, (void *)g->workspace, GPU_GEMM_WORKSPACE);
    return r;
}

int gpu_gemm_create(struct gpu_gemm **gemm, enum sur_gemm products, enum sur_window_attention attention,
                    CUstream stream, CUdeviceptr workspace)
{
    const bool wants_lt = products == SUR_GEMM_LT;
    const bool wants_blas = products == SUR_GEMM_BLAS || attention == SUR_ATTENTION_GEMM;
    *gemm = NULL;
    if (!wants_lt && !wants_blas) return SUR_OK;
    struct gpu_gemm *g = calloc(1, sizeof *g);
    if (!g) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    g->stream = stream;
    g->workspace = workspace;
    int r = wants_lt ? init_lt(g) : SUR_OK;
    if (!r && wants_blas) r = init_blas(g);
    if (r)
        gpu_gemm_destroy(g);
    else
        *gemm = g;
    return r;
}

void gpu_gemm_destroy(struct gpu_gemm *g)
{
    if (!g) return;
    if (g->blas) blas.cublasDestroy(g->blas);
    if (g->preference) lt.cublasLtMatmulPreferenceDestroy(g->preference);
    cublasLtMatrixLayout_t layouts[] = {g->w, g->x, g->y};
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (layouts[i]) lt.cublasLtMatrixLayoutDestroy(layouts[i]);
    if (g->operation) lt.cublasLtMatmulDescDestroy(g->operation);
    if (g->lt) lt.cublasLtDestroy(g->lt);
    free(g);
}

/* ---- products ---- */

/* The libraries' matrices are column major: ours of [rows][columns] is theirs of `columns` rows. */
static int set_size(cublasLtMatrixLayout_t m, int rows, int columns)
{
    const uint64_t n_rows = (uint64_t)columns, n_columns = (uint64_t)rows;
    const int64_t stride = columns;
    int r = LT(cublasLtMatrixLayoutSetAttribute, m, CUBLASLT_MATRIX_LAYOUT_ROWS, &n_rows, sizeof n_rows);
    if (!r) r = LT(cublasLtMatrixLayoutSetAttribute, m, CUBLASLT_MATRIX_LAYOUT_COLS, &n_columns, sizeof n_columns);
    if (!r) r = LT(cublasLtMatrixLayoutSetAttribute, m, CUBLASLT_MATRIX_LAYOUT_LD, &stride, sizeof stride);
    return r;
}

static int product_lt(struct gpu_gemm *g, const void *w, const void *x, void *y, int rows, int k, int n)
{
    const float one = 1, zero = 0;
    cublasLtMatmulHeuristicResult_t best;
    int found = 0, r = set_size(g->w, rows, k);
    if (!r) r = set_size(g->x, n, k);
    if (!r) r = set_size(g->y, n, rows);
    if (!r)
        r = LT(cublasLtMatmulAlgoGetHeuristic, g->lt, g->operation, g->w, g->x, g->y, g->y, g->preference, 1, &best,
               &found);
    if (!r && !found)
        return sur_fail(SUR_ERR_BACKEND, "cuBLASLt: no way to multiply %d x %d by %d columns", rows, k, n);
    if (!r)
        r = LT(cublasLtMatmul, g->lt, g->operation, &one, w, g->w, x, g->x, &zero, y, g->y, y, g->y, &best.algo,
               (void *)g->workspace, GPU_GEMM_WORKSPACE, g->stream);
    return r;
}

int gpu_gemm_product(struct gpu_gemm *g, CUdeviceptr w, CUdeviceptr x, CUdeviceptr y, int rows, int k, int n)
{
    const float one = 1, zero = 0;
    if (g->lt) return product_lt(g, (const void *)w, (const void *)x, (void *)y, rows, k, n);
    return BLAS(cublasGemmEx, g->blas, CUBLAS_OP_T, CUBLAS_OP_N, rows, n, k, &one, (const void *)w, CUDA_R_16BF, k,
                (const void *)x, CUDA_R_16BF, k, &zero, (void *)y, CUDA_R_32F, rows, CUBLAS_COMPUTE_32F,
                CUBLAS_GEMM_DEFAULT);
}

int gpu_gemm_heads(struct gpu_gemm *g, struct gpu_gemm_heads w, struct gpu_gemm_heads x, struct gpu_gemm_heads y,
                   int rows, int k, int n, int n_heads)
{
    const float one = 1, zero = 0;
    return BLAS(cublasSgemmStridedBatched, g->blas, CUBLAS_OP_T, CUBLAS_OP_N, rows, n, k, &one, (const float *)w.at,
                w.stride, w.step, (const float *)x.at, x.stride, x.step, &zero, (float *)y.at, y.stride, y.step,
                n_heads);
}
