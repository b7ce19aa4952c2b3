/* A checkpoint of random weights in memory, for measuring without a file. */
#ifndef BENCH_SYNTHETIC_H
#define BENCH_SYNTHETIC_H

#include "model/checkpoint.h"

struct sur_pool;

/* name: "full" (the published model's sizes) or "tiny". Weights are seeded, uniform, bf16; one piece of memory, tensors
 * at addresses of 8 mod 64 as they happen to lie in files. No vocabulary. 0, or -1 (unknown name, no memory). */
int synthetic_create(struct sur_checkpoint *checkpoint, const char *name, struct sur_pool *pool);
void synthetic_destroy(struct sur_checkpoint *checkpoint);

#endif
