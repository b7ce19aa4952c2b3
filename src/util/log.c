#include "util/log.h"

#include <stdarg.h>
#include <stdio.h>

static struct {
    enum sur_log_level max;
    sur_log_fn fn;
    void *user;
} sink;

void sur_set_log(enum sur_log_level max, sur_log_fn fn, void *user)
{
    sink.max = max;
    sink.user = user;
    sink.fn = fn;
}

void sur_log(enum sur_log_level level, const char *format, ...)
{
    if (!sink.fn || level > sink.max) return;
    char line[512];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    sink.fn(sink.user, level, line);
}
