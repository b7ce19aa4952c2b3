#include "sink/json.h"

#include <stdint.h>
#include <string.h>

#include "util/utf8.h"

void json_append_text(struct output *out, const char *text, size_t n)
{
    const uint8_t *bytes = (const uint8_t *)text;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        char safe[4];
        int took = sur_utf8_decode(bytes + i, n - i, &c);
        i += took > 0 ? (size_t)took : took < 0 ? (size_t)-took : n - i;
        if (!sur_utf8_printable(c)) c = SUR_UTF8_REPLACEMENT;
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
