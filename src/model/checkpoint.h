/* A checkpoint: a folder in Mistral's layout (params.json, tekken.json, consolidated.safetensors) or one GGUF file.
 * Immutable once open, shared by all sessions and threads. Opening maps the weights and reads no more than their
 * header, except matrices of F16 and F32: those are converted to BF16 where that changes no value. */
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

/* path: a folder or a GGUF file, told apart by what is there. SUR_ERR_MODEL with one line that names the file and what
 * is wrong with it; SUR_ERR_MEMORY. */
int sur_checkpoint_open(struct sur_checkpoint **checkpoint, const char *path);
void sur_checkpoint_close(struct sur_checkpoint **checkpoint);
/* The type of most of the matrices' weights, as the names of files have it: "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m",
 * "f16", "f32". */
const char *sur_checkpoint_type(const struct sur_checkpoint *checkpoint);
/* SUR_OK if every matrix is of a type in the set (1 << type) types. SUR_ERR_BACKEND with a line that names a matrix,
 * its type, and who does not run it. */
int sur_checkpoint_need(const struct sur_checkpoint *checkpoint, unsigned types, const char *who);

#endif
