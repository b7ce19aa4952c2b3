/* Bytes and operations of a pass, counted from the checkpoint, and quantiles of measurements. */
#ifndef BENCH_COUNT_H
#define BENCH_COUNT_H

#include <stdint.h>

#include "model/checkpoint.h"
#include "surtitle.h"

/* Return, of one matrix, the bytes that a product reads (quantised matrices as the CPU packs them), and the weights. 0
 * for a view without data. */
uint64_t count_bytes(const struct sur_view *view);
uint64_t count_weights(const struct sur_view *view);
/* Returns the sum of one of these over the products of n layers. */
uint64_t count_tower(const struct sur_layer *layers, int n, uint64_t (*of)(const struct sur_view *));
/* Returns the bytes of keys and values that a position at `context` reads in all layers. */
uint64_t count_kv_bytes(const struct sur_tower *tower, int64_t context, enum sur_kv_type kv);

/* Sorts v [n] in place; q: 0 to 1. */
double count_quantile(double *v, int n, double q);

#endif
