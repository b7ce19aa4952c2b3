/* Failures: a code from surtitle.h and one line for people, kept for the thread that failed. */
#ifndef SUR_UTIL_ERROR_H
#define SUR_UTIL_ERROR_H

#include "surtitle.h"

/* Keeps the formatted line (cut at 511 bytes) for sur_error_text() and returns code. `return sur_fail(...)`. */
int sur_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
