/* A tensor in a mapped file, as the readers of both layouts give it, and what both check. */
#ifndef SUR_MODEL_TENSOR_H
#define SUR_MODEL_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "model/blocks.h"

struct sur_tensor {
    const char *name;
    enum sur_weight_type type; /* SUR_N_WEIGHT_TYPES: another one, which only type_name tells */
    const char *type_name;     /* for messages, "Q4_0" say; never NULL */
    int n_dims;
    int64_t shape[8];          /* rows first */
    const void *data;          /* in the map; even address, no other alignment promised */
    uint64_t n_bytes;
};

/* Sorts by name. Returns a tensor whose data overlaps another's or whose name another has too; NULL: there is none.
 * *why says which of the two. */
const struct sur_tensor *sur_tensors_sort(struct sur_tensor *tensors, size_t n, const char **why);
/* In what sur_tensors_sort has sorted; NULL: there is none of that name. */
const struct sur_tensor *sur_tensors_find(const struct sur_tensor *tensors, size_t n, const char *name);

#endif
