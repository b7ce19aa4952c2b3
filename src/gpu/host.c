#include "gpu/host.h"

#include <stdarg.h>
#include <stdio.h>

#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

enum { LINE_BYTES = 512 };

static const struct sur_gpu_host *host; /* set before anything else is called */

void gpu_set_host(const struct sur_gpu_host *h)
{
    host = h;
}

bool gpu_may_allocate(size_t n_bytes)
{
    return !host->may_allocate || host->may_allocate(n_bytes);
}

int sur_fail(int code, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    return host->fail(code, line);
}

void sur_log(enum sur_log_level level, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    host->log(level, line);
}

int64_t sur_clock_ns(void)
{
    return host->clock_ns();
}
