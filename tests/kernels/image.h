/* An output of a kernel: device memory before the launch, the wanted contents after it, and the found contents. */
#ifndef SUR_TESTS_KERNELS_IMAGE_H
#define SUR_TESTS_KERNELS_IMAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "launch.h"

enum image_type {
    IMAGE_F32,
    IMAGE_F16,
    IMAGE_SPLIT,     /* bf16 [2][n]: high halves, then low ones */
    IMAGE_FRAGMENTS, /* fragments: element i of column c has index c * pitch + i; n is 8 * pitch */
};

struct image {
    const char *name;
    enum image_type type;
    size_t n, n_bytes;
    sur_gpu_ptr at;
    unsigned char *initial, *found; /* [n_bytes] */
    double *want, *bound;           /* [n]; want NaN: must not change, to the bit */
    double *root;                   /* [n] or NULL: scale of the statistical check; 0: left out */
};

/* Poisoned; want is NaN everywhere. Lives until memory_release() and host_release(). */
void image_init(struct image *m, const char *name, enum image_type type, size_t n);
void image_reset(const struct image *m); /* the device holds `initial` again */
void image_read(struct image *m);        /* the device's bytes to `found` */
void image_want(struct image *m, size_t i, double want, double bound);
double image_value(const struct image *m, size_t i); /* of `found` */
/* IMAGE_SPLIT, IMAGE_FRAGMENTS: returns NULL if element i is x, split, to the bit. */
const char *image_compare_split(const struct image *m, size_t i, float x);
/* Returns NULL, or what is wrong. Raises *worst to the largest error as a share of its bound. */
const char *image_compare(const struct image *m, double *worst);
/* The mean of (error / root)^2, square root taken; 0 without roots. */
double image_statistic(const struct image *m);

#endif
