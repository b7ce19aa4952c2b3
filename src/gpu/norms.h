/* The decoder's norms with the delay folded in. They depend on the model and the delay alone, so they belong to the
 * model: sessions with the same delay share one copy, which is made for the first of them and freed with the last. */
#ifndef SUR_GPU_NORMS_H
#define SUR_GPU_NORMS_H

#include <pthread.h>

#include "gpu/driver.h"
#include "gpu/weights.h"

struct gpu_norms {
    CUdeviceptr at; /* as gpu_tower.norms, with each ffn norm folded for the delay; immutable */
    int delay;      /* tokens */
    int n_users;
    struct gpu_norms *next;
};

/* A model's copies. */
struct gpu_norms_cache {
    /* immutable after init */
    struct gpu *gpu;
    const struct gpu_tower *decoder;
    const struct sur_checkpoint *checkpoint;
    pthread_mutex_t lock;
    struct gpu_norms *first; /* under the lock, as the users are */
};

void gpu_norms_init(struct gpu_norms_cache *cache, struct gpu *gpu, const struct gpu_tower *decoder,
                    const struct sur_checkpoint *checkpoint);
/* All norms have been released. */
void gpu_norms_finish(struct gpu_norms_cache *cache);
/* The calling thread has entered the context. SUR_ERR_MEMORY, SUR_ERR_BACKEND; *norms is then NULL. Thread-safe. */
int gpu_norms_acquire(struct gpu_norms **norms, struct gpu_norms_cache *cache, int delay);
/* NULL is allowed. No kernel that reads the norms is running. Thread-safe. */
void gpu_norms_release(struct gpu_norms_cache *cache, struct gpu_norms *norms);

#endif
