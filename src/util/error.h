/* Errors: a negative code of surtitle.h, and one line of text per thread.
 *
 * Thread-safety: any thread; each thread has its own line. */
#ifndef SUR_UTIL_ERROR_H
#define SUR_UTIL_ERROR_H

#include "surtitle.h"

/* Stores the formatted line, cut to 511 bytes, for sur_error_text(), and returns code, so that a function can fail with
 * `return sur_fail(...)`. The line names the thing that failed and does not end with a newline. */
int sur_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
