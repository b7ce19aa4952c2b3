/* Errors of the program's parts: a negative code of surtitle.h, and one line of text per thread. The program cannot use
 * the library's util/error.h, whose symbols are hidden.
 *
 * Thread-safety: any thread; each thread has its own line. */
#ifndef SUR_UTIL_FAILURE_H
#define SUR_UTIL_FAILURE_H

/* Stores the formatted line, cut to 511 bytes, for failure_text(), and returns code, so that a function can fail with
 * `return failure(...)`. failure_text() may be one of the arguments. */
int failure(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Returns the line of this thread's last failure, "" before the first. Valid until the thread's next failure. */
const char *failure_text(void);

#endif
