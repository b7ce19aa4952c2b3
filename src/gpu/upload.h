/* Copies tensors of the checkpoint to the device: workers read the mapped file, lay it out in pinned memory and copy
 * from there, each through buffers and a stream of its own, in the order in which the items were added. */
#ifndef SUR_GPU_UPLOAD_H
#define SUR_GPU_UPLOAD_H

#include <cuda.h>

#include "gpu/driver.h"
#include "model/checkpoint.h"

struct gpu_upload;

enum gpu_upload_form {
    GPU_UPLOAD_BLOCKS, /* a matrix, bf16 in blocks (sur_gpu_weight_at) */
    GPU_UPLOAD_ROWS,   /* a matrix, bf16, row major: [rows][pitch] */
    GPU_UPLOAD_FP32,   /* a vector, bf16 becomes fp32 */
};

enum { GPU_UPLOAD_VIEWS = 3 };

struct gpu_upload_item {
    CUdeviceptr device;
    char *host;                                     /* pinned: the destination when device is 0 */
    const struct sur_view *views[GPU_UPLOAD_VIEWS]; /* stacked: equal columns; NULL ends the list */
    int pitch;                                      /* matrices only */
    enum gpu_upload_form form;
};

int gpu_upload_create(struct gpu_upload **upload, struct gpu *gpu);
void gpu_upload_destroy(struct gpu_upload *upload);
/* Adds an item; it is copied, its views must live until gpu_upload_run returns. A matrix is written up to its pitch and
 * to a multiple of 8 rows, zeros outside the views. SUR_ERR_MODEL: too many columns. SUR_ERR_MEMORY. */
int gpu_upload_add(struct gpu_upload *upload, const struct gpu_upload_item *item);
/* Copies all items; they are on the device when it returns. */
int gpu_upload_run(struct gpu_upload *upload);

#endif
