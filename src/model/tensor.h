/* A tensor in a mapped file, and the checks that the readers of both layouts share. */
#ifndef SUR_MODEL_TENSOR_H
#define SUR_MODEL_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "model/blocks.h"

struct sur_tensor {
    const char *name;
    enum sur_weight_type type; /* SUR_N_WEIGHT_TYPES: an unsupported type, see type_name */
    const char *type_name;     /* for messages, as "Q4_0"; never NULL */
    int n_dims;
    int64_t shape[8];          /* rows first */
    const void *data;          /* in the map, at an even address */
    uint64_t n_bytes;
};

/* Sorts by name. Returns a tensor whose name or part of whose data another one has too, with the reason in *why; NULL:
 * there is none. */
const struct sur_tensor *sur_tensors_sort(struct sur_tensor *tensors, size_t n, const char **why);
/* Searches tensors that sur_tensors_sort has sorted; NULL: there is none of that name. */
const struct sur_tensor *sur_tensors_find(const struct sur_tensor *tensors, size_t n, const char *name);

#endif
