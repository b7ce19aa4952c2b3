/* JSON strings.
 *
 * Thread-safety and errors: those of output_append. */
#ifndef JSON_H
#define JSON_H

#include <stddef.h>

#include "sink/output.h"

/* Appends n bytes of text as the inside of a JSON string: quotes and backslashes are escaped; what is not valid UTF-8
 * or not printable becomes U+FFFD. */
void json_append_text(struct output *out, const char *text, size_t n);
/* Appends text as a JSON string, with its quotes. */
void json_append_string(struct output *out, const char *text);

#endif
