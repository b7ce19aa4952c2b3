/* An open model, as model.c and session.c share it, and the checks of options. */
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
    void *state;           /* of the backend */
    atomic_int n_sessions; /* open sessions; sur_model_close refuses while there are any */
    int n_forks;           /* sur_forks at open */
};

/* Returns the number of forks between this process and the one that first opened a model. In a child process a model of
 * the parent has no threads and no GPU, so no function of its backend may be called. */
int sur_forks(void);
/* SUR_ERR_ARGUMENT: the model was opened before a fork, by the parent. */
int sur_check_process(const struct sur_model *model);

/* Check all fields (options.c). SUR_ERR_ARGUMENT. */
int sur_check_model_options(const struct sur_model_options *options);
int sur_check_session_options(const struct sur_session_options *options, int delay_ms, const struct sur_model *model);

#endif
