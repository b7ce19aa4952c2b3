/* What surtitle-bench needs of the CPU backend besides its table (model/backend.h). */
#ifndef SUR_CPU_BACKEND_H
#define SUR_CPU_BACKEND_H

#include "model/backend.h"

/* Bytes that a session takes, its K/V rings in full. 0: the model's windows are too large. */
uint64_t sur_cpu_session_bytes(const struct sur_params *params, enum sur_kv_type kv, int threads,
                               const struct sur_backend_session_options *options);

#endif
