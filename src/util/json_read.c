#include "util/json_read.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "util/error.h"
#include "util/utf8.h"

/* Upper bounds of the heap bytes that jansson 2.14 allocates per character outside strings, with the alignment and
 * headers of glibc's malloc. A value that is not a container takes 80. ':' stands for a pair of a hash table (80), the
 * table's slots while it grows (48) and the value; ',' for a value and its place in a growing array (32); '{' for an
 * empty table;
 * '[' for an empty array and its first value. A comma between pairs is counted twice, which makes the limit stricter.
 */
enum { OBJECT_COST = 240, ARRAY_COST = 208, PAIR_COST = 208, NEXT_COST = 112 };
/* Per byte of a string: the value, and the lexer's buffer, whose size doubles when it is full. */
enum { BYTE_COST = 4 };

/* Returns an upper bound of what jansson has allocated at any time while it parses the text. */
static size_t estimate_cost(const char *json, size_t n_bytes)
{
    size_t n = BYTE_COST * n_bytes;
    bool in_string = false;
    for (size_t i = 0; i < n_bytes; i++) {
        char c = json[i];
        if (in_string) {
            if (c == '\\') i++;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else {
            n += c == ',' ? NEXT_COST : c == ':' ? PAIR_COST : c == '{' ? OBJECT_COST : c == '[' ? ARRAY_COST : 0;
        }
    }
    return n;
}

int sur_json_parse(json_t **root, const char *where, const char *json, size_t n_bytes, size_t max_bytes, size_t flags)
{
    *root = NULL;
    if (estimate_cost(json, n_bytes) > max_bytes)
        return sur_fail(SUR_ERR_MODEL, "%s: reading it takes more than %zu KiB of memory", where, max_bytes >> 10);
    json_error_t error;
    errno = 0;
    json_t *parsed = json_loadb(json, n_bytes, flags | JSON_REJECT_DUPLICATES, &error);
    /* When memory runs out, jansson 2.14 may report a syntax error or drop a key, so errno is checked, too. */
    if (errno == ENOMEM || (!parsed && json_error_code(&error) == json_error_out_of_memory)) {
        json_decref(parsed);
        return sur_fail(SUR_ERR_MEMORY, "%s: out of memory", where);
    }
    if (!parsed) {
        char text[256]; /* jansson may quote the file, which is untrusted */
        sur_utf8_clean(text, sizeof text, error.text, strnlen(error.text, sizeof error.text));
        return sur_fail(SUR_ERR_MODEL, "%s: broken JSON at line %d: %s", where, error.line, text);
    }
    if (!json_is_object(parsed)) {
        json_decref(parsed);
        return sur_fail(SUR_ERR_MODEL, "%s: not a JSON object", where);
    }
    *root = parsed;
    return SUR_OK;
}

int sur_json_object(const json_t *object, const char *path, const char *key, const json_t **value)
{
    *value = json_object_get(object, key);
    if (!*value) return sur_fail(SUR_ERR_MODEL, "%s%s is missing", path, key);
    if (!json_is_object(*value)) return sur_fail(SUR_ERR_MODEL, "%s%s must be an object", path, key);
    return SUR_OK;
}

int sur_json_int(const json_t *object, const char *path, const char *key, int min, int max, int *value)
{
    const json_t *v = json_object_get(object, key);
    if (!v) return sur_fail(SUR_ERR_MODEL, "%s%s is missing", path, key);
    double real = json_is_real(v) ? json_real_value(v) : NAN;
    json_int_t n = 0;
    bool good = json_is_integer(v);
    if (good) {
        n = json_integer_value(v);
    } else if (real >= min && real <= max && real == floor(real)) {
        n = (json_int_t)real;
        good = true;
    }
    if (!good || n < min || n > max)
        return sur_fail(SUR_ERR_MODEL, "%s%s must be a whole number from %d to %d", path, key, min, max);
    *value = (int)n;
    return SUR_OK;
}

int sur_json_double(const json_t *object, const char *path, const char *key, double min, double max, double *value)
{
    const json_t *v = json_object_get(object, key);
    if (!v) return sur_fail(SUR_ERR_MODEL, "%s%s is missing", path, key);
    double number = json_is_number(v) ? json_number_value(v) : NAN;
    if (!(number >= min && number <= max))
        return sur_fail(SUR_ERR_MODEL, "%s%s must be a number from %g to %g", path, key, min, max);
    *value = number;
    return SUR_OK;
}
