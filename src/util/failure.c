#include "util/failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 512 };

static _Thread_local char line[LINE_BYTES];

int failure(int code, const char *format, ...)
{
    char text[LINE_BYTES]; /* the arguments may point into `line` */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    memcpy(line, text, sizeof line);
    return code;
}

const char *failure_text(void)
{
    return line;
}
