/* How a model gets its backend: one that is chosen and opened, or two of which one encodes and the other decodes. */
#ifndef SUR_BACKENDS_H
#define SUR_BACKENDS_H

#include "model/backend.h"

struct sur_backend_wish {
    enum sur_backend_kind backend;              /* of both halves; auto: the first that can */
    enum sur_backend_kind encode_on, decode_on; /* auto: as `backend` says */
};

/* Opens what was wished for; with auto a backend that cannot be opened makes way for the next, with the reason in the
 * log. *state is closed by (*backend)->close, and *backend is the caller's until then. SUR_ERR_ARGUMENT: a half
 * contradicts the whole. */
int sur_backend_open(const struct sur_backend **backend, void **state, const struct sur_backend_wish *wish,
                     const struct sur_checkpoint *checkpoint, const struct sur_backend_options *options);

/* A backend that encodes on halves[0] and decodes on halves[1], both opened on the checkpoint; rows pass through the
 * host's memory. Its name is theirs, "cuda+cpu". options: of each half. */
int sur_mix_open(const struct sur_backend **backend, void **state, const struct sur_backend *const halves[2],
                 const struct sur_checkpoint *checkpoint, const struct sur_backend_options options[2]);

#endif
