/* Products by OpenBLAS (--gemm blas), on weights that are converted to fp32 block by block, for comparison with
 * surtitle's own. OpenBLAS has no fixed order of summation, so bits change with columns and threads. gemm_blas.c or, in
 * a build without OpenBLAS, gemm_none.c. */
#ifndef SUR_CPU_GEMM_H
#define SUR_CPU_GEMM_H

#include "cpu/ops.h"

/* Call it before the first product. SUR_ERR_ARGUMENT: the build or the machine has no OpenBLAS. */
int sur_blas_open(void);
void sur_blas_matmul(const struct sur_matmul *m, int row0, int row1); /* as sur_cpu_ops.matmul */

#endif
