/* Choosing and opening a model's backend: one for both halves, or one that encodes and another that decodes. */
#ifndef SUR_BACKEND_CHOICE_H
#define SUR_BACKEND_CHOICE_H

#include "model/backend.h"

/* Opens the backend, or the two halves, that options name. With auto, a backend that cannot be opened is followed by
 * the next one, and the reason goes to the log. The caller closes *state by (*backend)->close; *backend is valid until
 * then. SUR_ERR_ARGUMENT: encode_on or decode_on conflicts with backend. */
int sur_backend_open(const struct sur_backend **backend, void **state, const struct sur_checkpoint *checkpoint,
                     const struct sur_model_options *options);

/* Opens a backend that encodes on halves[0] and decodes on halves[1]; both open the checkpoint, each with its own
 * options, and rows pass through host memory. Its name is made of theirs: "cuda+cpu". */
int sur_split_open(const struct sur_backend **backend, void **state, const struct sur_backend *const halves[2],
                   const struct sur_checkpoint *checkpoint, const struct sur_model_options options[2]);

#endif
