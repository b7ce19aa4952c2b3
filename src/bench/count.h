/* What a pass reads and computes, counted from the checkpoint, and quantiles of what was measured. */
#ifndef BENCH_COUNT_H
#define BENCH_COUNT_H

#include <stdint.h>

#include "model/checkpoint.h"
#include "surtitle.h"

/* Of a matrix: the bytes that a product reads (of quantised matrices as the CPU keeps them), and the weights. 0 for a
 * view without data. */
uint64_t count_bytes(const struct sur_view *view);
uint64_t count_weights(const struct sur_view *view);
/* The sum of one of these over the products of n layers. */
uint64_t count_tower(const struct sur_layer *layers, int n, uint64_t (*of)(const struct sur_view *));
/* Bytes of the keys and values that a position at `context` reads, all layers together. */
uint64_t count_kv_bytes(const struct sur_tower *tower, int64_t context, enum sur_kv_type kv);

/* Sorts v [n] in place; q: 0 to 1. */
double count_quantile(double *v, int n, double q);

#endif
