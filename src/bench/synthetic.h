/* A checkpoint of random weights in memory, for measuring without a file. */
#ifndef BENCH_SYNTHETIC_H
#define BENCH_SYNTHETIC_H

#include "model/checkpoint.h"

struct sur_pool;

extern const struct sur_params synthetic_full; /* the published model's sizes */

/* name: "full" (the published model's sizes), "part" (the same but for 4 layers of the encoder, 2 of the decoder and a
 * vocabulary of 32,768), or "tiny". type: "bf16", or "q8_0", "q6_k", "q5_k_m", "q4_k_m", whose mix
 * of types is that of the published files (docs/quantisation.md). Weights are seeded, uniform and about as large as
 * trained ones; one piece of memory, tensors at addresses of 8 mod 64 as they happen to lie in files. No vocabulary. 0,
 * or -1 (unknown name or type, no memory). */
int synthetic_create(struct sur_checkpoint *checkpoint, const char *name, const char *type, struct sur_pool *pool);
void synthetic_destroy(struct sur_checkpoint *checkpoint);

#endif
