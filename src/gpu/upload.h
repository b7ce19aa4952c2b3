/* Copies tensors of the checkpoint to the device: workers read the mapped file into pinned memory and copy from there,
 * each through buffers and a stream of its own, in the order in which the pieces were added. */
#ifndef SUR_GPU_UPLOAD_H
#define SUR_GPU_UPLOAD_H

#include <cuda.h>
#include <stdbool.h>

#include "gpu/driver.h"
#include "model/checkpoint.h"

struct gpu_upload;

int gpu_upload_create(struct gpu_upload **upload, struct gpu *gpu);
void gpu_upload_destroy(struct gpu_upload *upload);
/* view's rows become rows of `pitch_bytes` at device, or at host (pinned) when device is 0; what a row lacks is zero.
 * widen: bf16 becomes fp32. */
int gpu_upload_add(struct gpu_upload *upload, CUdeviceptr device, char *host, const struct sur_view *view,
                   size_t pitch_bytes, bool widen);
int gpu_upload_run(struct gpu_upload *upload); /* returns when all is there */

#endif
