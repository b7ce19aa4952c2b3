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
    char *host;                                     /* pinned: where it goes when device is 0 */
    const struct sur_view *views[GPU_UPLOAD_VIEWS]; /* below one another, equally wide; NULL: no more */
    int pitch;                                      /* of a matrix */
    enum gpu_upload_form form;
};

int gpu_upload_create(struct gpu_upload **upload, struct gpu *gpu);
void gpu_upload_destroy(struct gpu_upload *upload);
/* A matrix is written up to its pitch and to a multiple of 8 rows, with zeros where the views end. The item is copied;
 * its views must live until the run is over. SUR_ERR_MODEL (too wide), SUR_ERR_MEMORY. */
int gpu_upload_add(struct gpu_upload *upload, const struct gpu_upload_item *item);
int gpu_upload_run(struct gpu_upload *upload); /* returns when all is there */

#endif
