/* The streaming schedule as pure functions of sample counts (docs/model.md). Delay is in tokens of 80 ms. */
#ifndef SUR_MODEL_SCHEDULE_H
#define SUR_MODEL_SCHEDULE_H

#include <stdint.h>

#include "surtitle.h"

enum {
    SUR_TOKEN_FRAMES = 8,      /* mel frames a token */
    SUR_TOKEN_ROWS = 4,        /* encoder frames a token */
    SUR_RIGHT_PAD_EXTRA = 10,  /* tokens of zeros after the delay's own */
    SUR_WHOLE_TOKENS = 256,    /* tokens a pass in a whole session */
};

/* Tokens of the prompt, BOS included: positions 0 .. n - 1. */
static inline int sur_schedule_prompt(int n_left_pad, int delay) { return 1 + n_left_pad + delay; }

/* Tokens (= adapter rows) of a stream that ended after n real samples: left pad, samples aligned to a token, right
 * pad. */
static inline int64_t sur_schedule_tokens(int n_left_pad, int delay, int64_t n_samples)
{
    return n_left_pad + (n_samples + SUR_TOKEN_SAMPLES - 1) / SUR_TOKEN_SAMPLES + delay + 1 + SUR_RIGHT_PAD_EXTRA;
}

#endif
