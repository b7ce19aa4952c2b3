#include "sink/json.h"

#include <stdint.h>
#include <string.h>

#include "util/utf8.h"

void json_append_text(struct output *out, const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t c;
        char safe[4];
        i += sur_utf8_next(text + i, n - i, &c);
        if (c == '"' || c == '\\') output_append(out, "\\", 1);
        output_append(out, safe, (size_t)sur_utf8_encode(c, safe));
    }
}

void json_append_string(struct output *out, const char *text)
{
    output_append(out, "\"", 1);
    json_append_text(out, text, strlen(text));
    output_append(out, "\"", 1);
}
