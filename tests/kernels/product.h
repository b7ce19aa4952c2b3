/* One product W x with its inputs on the device and the answer it should give, for narrow and wide kernels alike. */
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
    int runs; /* of the norm: 0 none, 1, or 4 frames side by side */
    int taps; /* 0, or the stride of a convolution: k is 3 channels */
    bool bias, split_out;
    int head_dim, n_heads, n_kv_heads; /* QKV */
    bool fp32;                         /* its ring */
    int64_t first;                     /* QKV, ROWS: position of column 0 */
};

struct product {
    struct product_case c;
    struct sur_gpu_product p; /* all columns; hi and lo only of ADD and ROWS */
    struct image images[PRODUCT_IMAGES];
    int n_images;
    double *x;                       /* [n][pitch]: what the reference multiplied */
    float *x_host;                   /* as the device has it */
    struct sur_gpu_top *top;         /* HEAD: [n], pinned */
    struct sur_gpu_top_state *state; /* HEAD, host copy: [n], entry i writes top + i */
    sur_gpu_ptr state_at, position_at;
};

extern const char *const epilogue_names[SUR_GPU_N_EPILOGUES];

const char *product_shape(const struct product_case *c);
/* Lives until memory_release() and host_release(). */
void product_init(struct product *t, const struct product_case *c);
/* The product of columns first .. first + n - 1 alone, writing where all of them would. */
struct sur_gpu_product product_columns(const struct product *t, int first, int n);
void product_reset(const struct product *t);
void product_read(struct product *t);
/* NULL or what is wrong with what was read. */
const char *product_compare(const struct product *t, double *worst);

/* Bytes of all images and results, to compare two runs. */
size_t product_bytes(const struct product *t);
void product_keep(const struct product *t, unsigned char *bytes);

/* Runs columns first .. by the narrow kernel, as many at once as fit; NULL, or why it cannot. by_column0: all addresses
 * stay those of column 0. */
const char *narrow_run(const struct product *t, int multiprocessors, int first, int n, bool by_column0);
/* The case as the kernels take it: some epilogues always follow a norm, some never (launch.h). */
struct product_case product_supported(const struct product_case *given);
const char *narrow_name(enum sur_gpu_epilogue epilogue, int stages);

#endif
