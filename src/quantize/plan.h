/* The plan of a GGUF file: its header, and the place of each tensor's data.
 *
 * Thread-safety: immutable after plan_make, so several threads may use it.
 * Errors: SUR_ERR_MEMORY and what sur_gguf_table_values returns, each with an error line. */
#ifndef QUANTIZE_PLAN_H
#define QUANTIZE_PLAN_H

#include "model/checkpoint.h"
#include "model/layout.h"
#include "quantize/buffer.h"

/* The weight types of a file, in the mixes of published files. */
struct preset {
    const char *name;
    uint32_t file_type; /* value of general.file_type */
    enum sur_weight_type matrix, attention_out, embedding;
};
const struct preset *preset_find(const char *name); /* NULL: unknown */
const char *preset_names(void);                     /* for messages: "q8_0, q6_k, ..." */

struct plan_tensor {
    enum sur_weight_type type;
    uint64_t offset; /* in the file */
    int rows, cols;
    int head_dim;                /* the rows are reordered to halves order (model/view.h); 0: they keep their order */
    const struct sur_view *view; /* NULL: `values` has the data */
    const float *values;         /* [rows, cols]: a table */
    char name[128];
};

struct plan {
    struct buffer header; /* with the padding after it */
    struct plan_tensor *tensors;
    int n_tensors;
    uint64_t n_bytes; /* size of the file */
    float *tables;    /* owned */
};

/* plan_finish must follow, even after a failure. The checkpoint must stay open until then. */
int plan_make(struct plan *plan, struct sur_checkpoint *checkpoint, const struct preset *preset);
void plan_finish(struct plan *plan);
/* Writes row r of the tensor, in the file's order, as fp32 to out [cols]. */
void plan_row(const struct plan_tensor *tensor, int r, float *out);

#endif
