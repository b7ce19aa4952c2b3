/* The plain reference of every op: obvious, in fp64, never optimised. The fast ops are tested against it, and a reader
 * who wants to know what an op means reads this. Same arguments as sur_cpu_ops (ops.h). */
#ifndef SUR_CPU_REF_H
#define SUR_CPU_REF_H

#include "cpu/ops.h"

void sur_ref_matmul(const struct sur_matmul *m, int row0, int row1);
void sur_ref_rmsnorm(float *y, const float *x, const float *w, int n, float eps);
void sur_ref_gelu(float *x, size_t n);
void sur_ref_silu_mul(float *gate, const float *up, size_t n);
void sur_ref_attend(const struct sur_attend *a); /* scratch unused; windows up to 4096 */

#endif
