/* What model.c and session.c share: an open model. */
#ifndef SUR_CORE_H
#define SUR_CORE_H

#include <stdatomic.h>

#include "model/backend.h"
#include "text/tekken.h"

/* Positions of the longest prompt: BOS, left pad, delay. */
enum { SUR_PROMPT_MAX = 1 + SUR_MAX_LEFT_PAD + SUR_DELAY_MAX_MS / SUR_TOKEN_MS };

struct sur_model { /* immutable after open, but for n_sessions */
    struct sur_checkpoint *checkpoint;
    const struct sur_tekken_info *tekken;
    const struct sur_backend *backend;
    void *state;           /* the backend's */
    atomic_int n_sessions; /* open sessions; close refuses to pull the model from under them */
    int n_forks;           /* sur_forks when it was opened */
};

/* How many forks lie between this process and the one that first opened a model. A model that was opened before one of
 * them has lost its threads (and its GPU): nothing of the backend may be called. */
int sur_forks(void);
/* SUR_OK, or SUR_ERR_ARGUMENT with a line when the process is a fork of the one that opened the model. */
int sur_check_process(const struct sur_model *model);

/* SUR_OK, or SUR_ERR_ARGUMENT with a line (options.c). */
int sur_check_model_options(const struct sur_model_options *options);
int sur_check_session_options(const struct sur_session_options *options, int delay_ms, const struct sur_model *model);

#endif
