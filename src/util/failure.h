/* Failures of the program's parts: a code and one line for the user, kept per thread. The library keeps its own lines
 * (util/error.h); its symbols are hidden from the program. */
#ifndef SUR_UTIL_FAILURE_H
#define SUR_UTIL_FAILURE_H

/* Keeps the formatted line, cut at 511 bytes, and returns code: `return failure(...)`. failure_text() may be one of the
 * arguments. */
int failure(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The line of this thread's last failure; "" before the first. Valid until the thread's next failure. */
const char *failure_text(void);

#endif
