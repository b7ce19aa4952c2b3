/* What every kernel should compute: plain, in fp64, from host copies of its inputs. */
#ifndef SUR_TESTS_KERNELS_REFERENCE_H
#define SUR_TESTS_KERNELS_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "launch.h"

/* Sums of squares of x [n] by groups of 8, [(n + 7) / 8], and the norm's scale of them: in fp32, in the order that
 * launch.h lays down. */
void ref_squares(float *squares, const float *x, int n);
float ref_scale(const float *squares, int n, float eps);

/* x [n][pitch]: the input's columns, normed, zeros from k to pitch. in's addresses are not used: from and norm are. */
void ref_input(double *x, const float *from, const float *norm, const struct sur_gpu_input *in, int k, int pitch,
               int n);

/* [n][rows] each: W x; the sum of the terms' absolute values; the root of the sum of their squares. */
struct ref_sums {
    double *sum, *size, *root;
};
void ref_product(const struct ref_sums *s, const uint16_t *w, const double *x, int rows, int pitch, int n);

double ref_gelu(double x);
double ref_silu_mul(double gate, double up);
/* Cosine and sine that rotate pair j of head_dim at a position. */
void ref_rotation(float *cos_sin, int64_t position, const float *inv, int half);

struct ref_attend {
    const float *q;    /* [n][n_heads * head_dim] */
    const void *k, *v; /* struct sur_gpu_ring */
    const struct sur_gpu_ring *ring;
    int64_t first;
    int n, n_heads, window;
    double scale;
};
/* out, size, root [n][n_heads * head_dim]: the result; the sum of p |v|; the root of the sum of (p v)^2. spread
 * [n][n_heads]: the largest over keys of scale * sum |q k|, which rounding of scores is in proportion to. */
void ref_attend(const struct ref_attend *a, double *out, double *size, double *root, double *spread);

/* Where the ring keeps element e of head `head` at position p. */
size_t ref_ring_index(const struct sur_gpu_ring *r, bool value, int head, int e, int64_t p);
int ref_ring_dp(int head_dim);
size_t ref_ring_size(const struct sur_gpu_ring *r); /* elements of k, and of v */

/* The best four of y [n], the lowest id of equal ones first; id -1 where there is none. */
void ref_top(struct sur_gpu_top *top, const float *y, int n);

#endif
