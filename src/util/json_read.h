/* Reading JSON from untrusted files: bounded parsing, and values by key with error lines that name them.
 *
 * Pure; any thread.
 * Errors: every function returns SUR_OK, SUR_ERR_MODEL (the file is wrong) or SUR_ERR_MEMORY. */
#ifndef SUR_UTIL_JSON_READ_H
#define SUR_UTIL_JSON_READ_H

#include <jansson.h>
#include <stddef.h>

/* Parses a JSON object. On success the caller owns *root (json_decref); on failure it is NULL.
 * Refused: a key that occurs twice in one object, invalid UTF-8, and a text whose values may take more than max_bytes
 * of memory. That memory is estimated before any is allocated; the estimate is an upper bound (240 bytes per bracket,
 * comma or colon and 4 per byte). where: begins the error line ("params.json"). flags: further flags of jansson's. */
int sur_json_parse(json_t **root, const char *where, const char *json, size_t n_bytes, size_t max_bytes, size_t flags);

/* Read the value of `key` in `object`. path ("params.json: a.b.") and key make up the name in the error line. */
int sur_json_object(const json_t *object, const char *path, const char *key, const json_t **value); /* borrowed */
/* Accepts a whole number within [min, max]; 480.0 is a whole number. */
int sur_json_int(const json_t *object, const char *path, const char *key, int min, int max, int *value);
int sur_json_double(const json_t *object, const char *path, const char *key, double min, double max, double *value);

#endif
