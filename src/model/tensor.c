#include "model/tensor.h"

#include <stdlib.h>
#include <string.h>

static int by_data(const void *a, const void *b)
{
    const struct sur_tensor *x = a, *y = b;
    if (x->data != y->data) return (const char *)x->data < (const char *)y->data ? -1 : 1;
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

static int by_name(const void *a, const void *b)
{
    const struct sur_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

const struct sur_tensor *sur_tensors_sort(struct sur_tensor *tensors, size_t n, const char **why)
{
    if (n == 0) return NULL;
    qsort(tensors, n, sizeof tensors[0], by_data);
    *why = "its data overlaps another tensor's";
    for (size_t i = 1; i < n; i++) {
        const struct sur_tensor *before = &tensors[i - 1];
        if ((const char *)tensors[i].data - (const char *)before->data < (int64_t)before->n_bytes) return &tensors[i];
    }
    qsort(tensors, n, sizeof tensors[0], by_name);
    *why = "its name stands twice";
    for (size_t i = 1; i < n; i++)
        if (by_name(&tensors[i - 1], &tensors[i]) == 0) return &tensors[i];
    return NULL;
}

const struct sur_tensor *sur_tensors_find(const struct sur_tensor *tensors, size_t n, const char *name)
{
    struct sur_tensor key = {.name = name};
    return n ? bsearch(&key, tensors, n, sizeof key, by_name) : NULL;
}
