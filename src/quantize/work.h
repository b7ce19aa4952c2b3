/* Quantises a plan's tensors and writes them to a file, with several threads.
 *
 * Thread-safety: one call at a time. */
#ifndef QUANTIZE_WORK_H
#define QUANTIZE_WORK_H

#include "quantize/plan.h"

/* Called by work_run's caller's thread a few times per second, and at the end. */
typedef void (*work_progress_fn)(void *user, uint64_t done_bytes, uint64_t all_bytes);

/* Writes the whole file to fd. Its bytes do not depend on n_threads. progress may be NULL.
 * SUR_ERR_IO: writing failed; the error line is errno's text. SUR_ERR_MODEL: a weight is not finite. SUR_ERR_MEMORY. */
int work_run(const struct plan *plan, int fd, int n_threads, work_progress_fn progress, void *user);

#endif
