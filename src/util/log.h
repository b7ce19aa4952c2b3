/* The library's log. sur_set_log (surtitle.h) chooses where it goes.
 *
 * Thread-safety: any thread, once sur_set_log has returned. */
#ifndef SUR_UTIL_LOG_H
#define SUR_UTIL_LOG_H

#include "surtitle.h"

/* Formats one line, cut to 511 bytes and without a newline, and passes it on if `level` is enabled. Code that runs once
 * per token logs at SUR_LOG_DEBUG only. */
void sur_log(enum sur_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
