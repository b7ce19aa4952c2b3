/* A checkpoint: a folder in Mistral's layout (params.json, tekken.json, consolidated.safetensors) or one GGUF file.
 * Opening maps the weights and reads only their header, except matrices of F16 and F32: those are converted to BF16 if
 * that changes no value.
 *
 * Thread-safety: immutable after open; all sessions and threads share it. */
#ifndef SUR_MODEL_CHECKPOINT_H
#define SUR_MODEL_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

#include "model/params.h"
#include "model/weights.h"

struct sur_tekken;
struct sur_safetensors;
struct sur_gguf;

struct sur_checkpoint {
    struct sur_params params;
    struct sur_weights weights;
    struct sur_tekken *tekken;
    struct sur_safetensors *file; /* NULL for a GGUF file */
    struct sur_gguf *gguf;        /* NULL for a folder */
    void **converted;             /* [n_converted] memory of views that do not point into the file */
    int n_converted;
};

/* path: a folder or a GGUF file. SUR_ERR_MODEL: the line names the file and the fault. SUR_ERR_MEMORY. */
int sur_checkpoint_open(struct sur_checkpoint **checkpoint, const char *path);
void sur_checkpoint_close(struct sur_checkpoint **checkpoint);
/* Returns the type of most matrices as in names of files: "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m",
 * "f16", "f32". */
const char *sur_checkpoint_type(const struct sur_checkpoint *checkpoint);
/* SUR_OK if the type of every matrix is in types, a set of bits 1 << type. SUR_ERR_BACKEND: the line names a matrix,
 * its type, and `user`, the backend or option that does not support it. */
int sur_checkpoint_need(const struct sur_checkpoint *checkpoint, unsigned types, const char *user);

#endif
