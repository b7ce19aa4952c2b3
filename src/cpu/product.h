/* Products of a matrix of any weight type with columns of floats. A table by weight type chooses the code. */
#ifndef SUR_CPU_PRODUCT_H
#define SUR_CPU_PRODUCT_H

#include "cpu/isa.h"
#include "cpu/matrix.h"
#include "cpu/pool.h"

/* Immutable after open. */
struct sur_cpu_products {
    void (*matmul)(const struct sur_matmul *m, int row0,
                   int row1);          /* with BF16: the instruction set's, or OpenBLAS's */
    const struct sur_quant_ops *quant; /* with packed matrices */
    struct sur_pool *pool;
};

struct sur_cpu_product {
    const struct sur_cpu_matrix *w; /* [rows, cols] */
    const float *bias;              /* [rows] or NULL */
    const float *x;                 /* [n, cols] */
    int n;
    struct sur_quant_group *groups; /* [n, cols / SUR_GROUP + 1]: x as packed matrices read it; others do not use it */
    float *y;                       /* [n, rows], column c at y + c * y_stride */
    size_t y_stride;
    bool accumulate; /* y += instead of y = */
};

/* Fills groups from x, by all workers. Needed once per x before sur_cpu_product_rows with packed matrices. */
void sur_cpu_product_quantise(const struct sur_cpu_products *products, const struct sur_cpu_product *product);
/* Rows row0 .. row1 - 1; with packed matrices row0 is a multiple of SUR_TILE_ROWS. Threads may share the rows out. */
void sur_cpu_product_rows(const struct sur_cpu_products *products, const struct sur_cpu_product *product, int row0,
                          int row1);
/* The whole product, by all workers where that is worth it. */
void sur_cpu_product_run(const struct sur_cpu_products *products, const struct sur_cpu_product *product);

/* Runs fn by all workers, or by the caller alone where `work` multiply-adds cost less than waking the workers. */
void sur_cpu_share(struct sur_pool *pool, int64_t work, sur_pool_fn fn, void *arg);

#endif
