#include "util/json_read.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "util/error.h"
#include "util/utf8.h"

/* At least as many values as the text can hold: every value but the first follows one of these. Bytes inside strings
 * are counted too, which only makes the bound stricter where somebody writes such names. */
static size_t count_values(const char *json, size_t n_bytes)
{
    size_t n = 1;
    bool in_string = false;
    for (size_t i = 0; i < n_bytes; i++) {
        char c = json[i];
        if (in_string) {
            if (c == '\\') i++;
            if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else {
            n += c == ',' || c == '[' || c == '{' || c == ':';
        }
    }
    return n;
}

int sur_json_parse(json_t **root, const char *where, const char *json, size_t n_bytes, size_t max_values, size_t flags)
{
    *root = NULL;
    if (count_values(json, n_bytes) > max_values)
        return sur_fail(SUR_ERR_MODEL, "%s: more than %zu values", where, max_values);
    json_error_t error;
    errno = 0;
    json_t *parsed = json_loadb(json, n_bytes, flags | JSON_REJECT_DUPLICATES, &error);
    /* jansson 2.14 calls the file broken when it has no memory, or loses a key: malloc's own word is more reliable */
    if (errno == ENOMEM || (!parsed && json_error_code(&error) == json_error_out_of_memory)) {
        json_decref(parsed);
        return sur_fail(SUR_ERR_MEMORY, "%s: out of memory", where);
    }
    if (!parsed) {
        char text[256]; /* it may quote the file */
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
