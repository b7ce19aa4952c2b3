/* The library's one log; see sur_set_log. Never called a token at a time above debug. */
#ifndef SUR_UTIL_LOG_H
#define SUR_UTIL_LOG_H

#include "surtitle.h"

void sur_log(enum sur_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
