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
    int runs; /* of the norm: 0 none; 1, whose scale is the kernel's; or 4 frames side by side, normed before it */
    int taps; /* 0, or the stride of a convolution: k is 3 channels */
    bool bias, split_out, fragments;   /* split_out: into halves; and fragments: into those */
    int head_dim, n_heads, n_kv_heads; /* QKV */
    bool fp32;                         /* its ring */
    int64_t first;                     /* QKV, ROWS: position of column 0 */
};

struct product {
    struct product_case c;
    struct sur_gpu_product p;       /* all columns, as the tiled kernel takes them: hi, lo, scale */
    sur_gpu_ptr fragments, squares; /* as the skinny one does: of hi and lo; squares 0: none */
    struct sur_gpu_input in;        /* what hi, lo, squares and scale are the split of */
    struct image images[PRODUCT_IMAGES];
    int n_images;
    double *x;                       /* [n][pitch]: what the reference multiplied */
    float *x_host, *norm;            /* as the device has them */
    float *split;                    /* [n][pitch]: what hi and lo are halves of */
    float *squares_host, *scale;     /* [n][(k + 7) / 8], [n]; or NULL */
    uint16_t *w, *w_up;              /* [rows][pitch], row major */
    struct sur_gpu_top *top;         /* HEAD: [n], pinned */
    struct sur_gpu_top_state *state; /* HEAD, host copy: [n], entry i writes top + i */
    sur_gpu_ptr state_at, position_at;
};

extern const char *const epilogue_names[SUR_GPU_N_EPILOGUES];

/* The case with its rows, also of QKV. */
struct product_case product_complete(const struct product_case *given);
const char *product_shape(const struct product_case *c);
/* Lives until memory_release() and host_release(). */
void product_init(struct product *t, const struct product_case *c);
/* The product of columns first .. first + n - 1 alone, writing where all of them would; skinny: as that kernel takes
 * it, but for its plan. */
struct sur_gpu_product product_columns(const struct product *t, int first, int n, bool skinny);
/* What the norm's scale may be off by, as a share of it. */
double product_scale_share(int norm_k);
void product_reset(const struct product *t);
void product_read(struct product *t);
/* NULL or what is wrong with what was read. */
const char *product_compare(const struct product *t, double *worst);

/* Bytes of all images and results, to compare two runs. */
size_t product_bytes(const struct product *t);
void product_keep(const struct product *t, unsigned char *bytes);

#endif
