/* The streaming schedule as pure functions of sample counts (docs/model.md). Delay is in tokens of 80 ms. */
#ifndef SUR_MODEL_SCHEDULE_H
#define SUR_MODEL_SCHEDULE_H

#include <stdint.h>

#include "surtitle.h"

enum {
    SUR_TOKEN_FRAMES = 8,      /* mel frames per token */
    SUR_TOKEN_ROWS = 4,        /* encoder frames per token */
    SUR_RIGHT_PAD_EXTRA = 10,  /* tokens of zeros after those of the delay */
    SUR_WHOLE_TOKENS = 256,    /* tokens per pass of a whole session */
};

/* Returns the tokens of the prompt, with BOS: positions 0 to n - 1. */
static inline int sur_schedule_prompt(int n_left_pad, int delay) { return 1 + n_left_pad + delay; }

/* Returns the tokens (adapter rows) of a stream that ended after n samples: left pad, samples rounded up to tokens,
 * right pad. */
static inline int64_t sur_schedule_tokens(int n_left_pad, int delay, int64_t n_samples)
{
    return n_left_pad + (n_samples + SUR_TOKEN_SAMPLES - 1) / SUR_TOKEN_SAMPLES + delay + 1 + SUR_RIGHT_PAD_EXTRA;
}

#endif
