/* Products with matrices of F16 and F32 whose values bf16 does not hold (those that it holds are BF16 once a checkpoint
 * is open). A weight is the sum of two or three bf16 numbers, so that as many products of bf16 make one. Files of such
 * weights are rare; these products are correct rather than fast. */
#ifndef SUR_CPU_WIDE_H
#define SUR_CPU_WIDE_H

#include "cpu/ops.h"
#include "model/view.h"

/* As sur_cpu_ops.matmul, which is the first argument; m->w and m->w_stride are not used: w's rows are, in their order
 * in memory. The bits of a result do not depend on what is computed beside it. */
void sur_wide_matmul(void (*matmul)(const struct sur_matmul *m, int row0, int row1), const struct sur_view *w,
                     const struct sur_matmul *m, int row0, int row1);

#endif
