/* What the readers of JSON from outside share: bounded parsing, and values by key with errors that name them. Every
 * function returns SUR_OK, SUR_ERR_MODEL or SUR_ERR_MEMORY. Pure; any thread. */
#ifndef SUR_UTIL_JSON_READ_H
#define SUR_UTIL_JSON_READ_H

#include <jansson.h>
#include <stddef.h>

/* Parses an object. Refused: a name that stands twice in one object, broken UTF-8, and a text whose tree of values
 * might take more than max_bytes of memory. That is estimated before anything is allocated, from above: up to 240 bytes
 * for a bracket, comma or colon and 4 for each byte. flags: more of jansson's. where begins the error line
 * ("params.json"). On success *root is the caller's, for json_decref. */
int sur_json_parse(json_t **root, const char *where, const char *json, size_t n_bytes, size_t max_bytes, size_t flags);

/* Values of `object` by key. path ("params.json: a.b.") and key are what the error line names. */
int sur_json_object(const json_t *object, const char *path, const char *key, const json_t **value);
/* A whole number within [min, max]; 480.0 counts as one. */
int sur_json_int(const json_t *object, const char *path, const char *key, int min, int max, int *value);
int sur_json_double(const json_t *object, const char *path, const char *key, double min, double max, double *value);

#endif
