#include "cpu/gemm.h"
#include "util/error.h"

int sur_blas_open(void)
{
    return sur_fail(SUR_ERR_ARGUMENT, "--gemm blas: this build has no OpenBLAS");
}

/* Never called: open has refused. */
void sur_blas_matmul(const struct sur_matmul *m, int row0, int row1)
{
    (void)m;
    (void)row0;
    (void)row1;
}
