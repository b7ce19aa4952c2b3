#include "gpu/services.h"

#include <stdarg.h>
#include <stdio.h>

#include "util/clock.h"
#include "util/error.h"
#include "util/log.h"

enum { LINE_BYTES = 512 };

static const struct sur_gpu_services *library; /* set before anything else is called */

void gpu_set_services(const struct sur_gpu_services *services)
{
    library = services;
}

bool gpu_may_allocate(size_t n_bytes)
{
    return !library->may_allocate || library->may_allocate(n_bytes);
}

int sur_fail(int code, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    return library->fail(code, line);
}

void sur_log(enum sur_log_level level, const char *format, ...)
{
    char line[LINE_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    library->log(level, line);
}

int64_t sur_clock_ns(void)
{
    return library->clock_ns();
}
