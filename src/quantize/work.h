/* Quantises a plan's tensors into a file, by several threads. */
#ifndef QUANTIZE_WORK_H
#define QUANTIZE_WORK_H

#include "quantize/plan.h"

/* Called from work_run's thread a few times a second, and at the end. */
typedef void (*work_progress_fn)(void *user, uint64_t done_bytes, uint64_t all_bytes);

/* Writes all of the plan to fd. The bytes do not depend on n_threads. progress may be NULL.
 * SUR_ERR_IO: writing failed, errno's text in the line. SUR_ERR_MODEL: a weight is not finite. SUR_ERR_MEMORY. */
int work_run(const struct plan *plan, int fd, int n_threads, work_progress_fn progress, void *user);

#endif
