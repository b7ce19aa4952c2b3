/* The yardstick beside our own products (--gemm blas): OpenBLAS on weights widened to fp32 a block at a time. It fixes
 * no order of summation, so its bits change with columns and threads: for comparing, not for captions. gemm_blas.c or,
 * in a build without OpenBLAS, gemm_none.c. */
#ifndef SUR_CPU_GEMM_H
#define SUR_CPU_GEMM_H

#include "cpu/ops.h"

/* Once, before the first product. SUR_ERR_ARGUMENT where the build or the machine has no OpenBLAS. */
int sur_blas_open(void);
void sur_blas_matmul(const struct sur_matmul *m, int row0, int row1); /* as sur_cpu_ops.matmul */

#endif
