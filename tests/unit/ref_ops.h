/* The plain reference of every operation of cpu/ops.h, with the same arguments: simple, in fp64, never optimised. The
 * fast operations are tested against it, and it defines what they mean. */
#ifndef REF_OPS_H
#define REF_OPS_H

#include "cpu/ops.h"

void sur_ref_matmul(const struct sur_matmul *m, int row0, int row1);
void sur_ref_rmsnorm(float *y, const float *x, const float *w, int n, float eps);
void sur_ref_gelu(float *x, size_t n);
void sur_ref_silu_mul(float *gate, const float *up, size_t n);
void sur_ref_attend(const struct sur_attend *a); /* scratch unused; windows up to 4096 */

#endif
