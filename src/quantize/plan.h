/* What is to be written: the header, and where each tensor's data lies. */
#ifndef QUANTIZE_PLAN_H
#define QUANTIZE_PLAN_H

#include "model/checkpoint.h"
#include "model/layout.h"
#include "quantize/buffer.h"

/* A mix of types, as published files have them. */
struct preset {
    const char *name;
    uint32_t file_type; /* what general.file_type says of it */
    enum sur_weight_type matrix, attention_out, embedding;
};
const struct preset *preset_find(const char *name); /* NULL: there is none */
const char *preset_names(void);                     /* for a line: "q8_0, q6_k, ..." */

struct plan_tensor {
    enum sur_weight_type type;
    uint64_t offset; /* in the file */
    int rows, cols;
    int head_dim;                /* its rows are to be put in halves order (model/view.h); 0: as they are */
    const struct sur_view *view; /* NULL: values */
    const float *values;         /* [rows, cols]: a table */
    char name[128];
};

struct plan {
    struct buffer header; /* with the padding behind it */
    struct plan_tensor *tensors;
    int n_tensors;
    uint64_t n_bytes; /* of the file */
    float *tables;    /* owned */
};

/* SUR_ERR_MEMORY. On failure, too, the plan is to be finished. */
int plan_make(struct plan *plan, struct sur_checkpoint *checkpoint, const struct preset *preset);
void plan_finish(struct plan *plan);
/* Row r of the file's tensor in fp32, out [cols]. */
void plan_row(const struct plan_tensor *tensor, int r, float *out);

#endif
