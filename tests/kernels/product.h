/* One product W x with its inputs on the device and the answer it should give, for skinny and tiled kernels alike. */
#ifndef SUR_TESTS_KERNELS_PRODUCT_H
#define SUR_TESTS_KERNELS_PRODUCT_H

#include "harness.h"
#include "image.h"

enum { PRODUCT_IMAGES = 3 };

struct product_case {
    enum sur_gpu_epilogue epilogue;
    int rows; /* QKV: what heads and head_dim say */
    int k, n;
    enum data data;
    int runs; /* norms: 0 none; 1 over k, whose scale the kernel applies; 4 over k / 4 each, applied before it */
    int taps; /* 0, or the stride of a convolution of 3 taps */
    bool bias, split_out, fragments;   /* split_out: the result as halves; with fragments: as fragments */
    int head_dim, n_heads, n_kv_heads; /* QKV */
    bool fp32;                         /* its ring */
    int64_t first;                     /* QKV, ROWS: position of column 0 */
};

struct product {
    struct product_case c;
    struct sur_gpu_product p;       /* all columns, for the tiled kernel: hi, lo, scale */
    sur_gpu_ptr fragments, squares; /* for the skinny kernel; squares 0: no norm */
    struct sur_gpu_input in;        /* the input before the split */
    struct image images[PRODUCT_IMAGES];
    int n_images;
    double *x;                       /* [n][pitch]: input of the reference */
    float *x_host, *norm;            /* copies of the device's */
    float *split;                    /* [n][pitch]: hi + lo before rounding */
    float *squares_host, *scale;     /* [n][(k + 7) / 8], [n]; or NULL */
    uint16_t *w, *w_up;              /* [rows][pitch], row major */
    struct sur_gpu_top *top;         /* HEAD: [n], pinned */
    struct sur_gpu_top_state *state; /* HEAD, host copy: [n], entry i writes top + i */
    sur_gpu_ptr state_at, position_at;
};

extern const char *const epilogue_names[SUR_GPU_N_EPILOGUES];

/* The case with its rows set, also for QKV. */
struct product_case product_complete(const struct product_case *given);
const char *product_shape(const struct product_case *c);
/* Lives until memory_release() and host_release(). */
void product_init(struct product *t, const struct product_case *c);
/* The product of columns first .. first + n - 1 alone, writing where all of them would; skinny: as that kernel takes
 * it, but for its plan. */
struct sur_gpu_product product_columns(const struct product *t, int first, int n, bool skinny);
/* Bound of the error of a norm's scale, relative. */
double product_scale_share(int norm_k);
void product_reset(const struct product *t);
void product_read(struct product *t);
/* Returns NULL, or what is wrong with the results read. */
const char *product_compare(const struct product *t, double *worst);

/* Size of all results, to compare two runs. */
size_t product_bytes(const struct product *t);
void product_keep(const struct product *t, unsigned char *bytes);

#endif
