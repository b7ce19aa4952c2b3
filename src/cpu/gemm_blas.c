#include <cblas.h>
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

#include "cpu/gemm.h"
#include "util/error.h"
#include "util/half.h"

/* A block of widened weights and one of sums, on the stack: 128 KiB and 4 KiB. */
enum { ROWS = 32, DEPTH = 1024, COLS = 32 };

static __typeof__(cblas_sgemm) *sgemm; /* set once, under the lock, before the first product */
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;

static int open_library(void)
{
    if (sgemm) return SUR_OK;
    void *library = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!library) return sur_fail(SUR_ERR_ARGUMENT, "--gemm blas: %s", dlerror());
    void (*set_threads)(int);
    void *set = dlsym(library, "openblas_set_num_threads"), *product = dlsym(library, "cblas_sgemm");
    if (!set || !product) return sur_fail(SUR_ERR_ARGUMENT, "--gemm blas: libopenblas.so.0 is not OpenBLAS");
    memcpy(&set_threads, &set, sizeof set); /* ISO C has no cast from data to function */
    memcpy(&sgemm, &product, sizeof product);
    set_threads(1); /* our workers share the rows out */
    return SUR_OK;
}

/* OpenBLAS is opened here instead of linked, because it starts threads and reserves memory as soon as it is loaded, and
 * only --gemm blas needs it. */
int sur_blas_open(void)
{
    pthread_mutex_lock(&opening);
    int r = open_library();
    pthread_mutex_unlock(&opening);
    return r;
}

static void finish(const struct sur_matmul *m, const float *sums, int row, int rows, int col, int cols)
{
    for (int c = 0; c < cols; c++)
        for (int r = 0; r < rows; r++) {
            float *y = m->y + (size_t)(col + c) * m->y_stride + row + r, sum = sums[c * rows + r];
            if (m->bias) sum += m->bias[row + r];
            *y = m->accumulate ? *y + sum : sum;
        }
}

void sur_blas_matmul(const struct sur_matmul *m, int row0, int row1)
{
    float w[ROWS * DEPTH], sums[ROWS * COLS];
    for (int row = row0; row < row1; row += ROWS)
        for (int col = 0; col < m->n; col += COLS) {
            int rows = row1 - row < ROWS ? row1 - row : ROWS, cols = m->n - col < COLS ? m->n - col : COLS;
            memset(sums, 0, sizeof sums);
            for (int k = 0; k < m->k; k += DEPTH) {
                int depth = m->k - k < DEPTH ? m->k - k : DEPTH;
                for (int r = 0; r < rows; r++) {
                    const uint16_t *from = m->w + (size_t)(row + r) * m->w_stride + k;
                    for (int i = 0; i < depth; i++) w[r * depth + i] = sur_bf16_to_f32(from[i]);
                }
                /* sums [cols, rows] += x [cols, depth] times w [rows, depth] transposed */
                sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, cols, rows, depth, 1,
                      m->x + (size_t)col * m->x_stride + k, (int)m->x_stride, w, depth, 1, sums, rows);
            }
            finish(m, sums, row, rows, col, cols);
        }
}
