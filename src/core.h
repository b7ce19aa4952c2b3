/* What model.c and session.c share: an open model. */
#ifndef SUR_CORE_H
#define SUR_CORE_H

#include <stdatomic.h>

#include "model/backend.h"
#include "text/tekken.h"

struct sur_model { /* immutable after open, but for n_sessions */
    struct sur_checkpoint *checkpoint;
    const struct sur_tekken_info *tekken;
    const struct sur_backend *backend;
    void *state;             /* the backend's */
    atomic_int n_sessions;   /* open sessions; close refuses to pull the model from under them */
};

/* SUR_OK, or SUR_ERR_ARGUMENT when a reserved word of an option struct is not 0. */
int sur_check_reserved(const uint64_t reserved[8]);

#endif
