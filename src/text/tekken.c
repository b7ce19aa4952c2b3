#include "text/tekken.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/json_read.h"

enum {
    MAX_FILE_BYTES = 128 << 20,
    MAX_REST_BYTES = 8 << 20,   /* of the text without the entries of vocab; under 1 MiB in the published file */
    MAX_REST_MEMORY = 32 << 20, /* for jansson's values of that text */
    MAX_ENTRY_MEMORY = 64 << 10,
    MAX_IDS = 1 << 20,
    MAX_ENTRIES = 1 << 20,
    MAX_PIECE_BYTES = 256, /* 78 in the published file */
};

#define SPECIAL "tekken.json: special_tokens"

struct sur_tekken {
    struct sur_tekken_info info;
    int n_ids;
    uint32_t *offsets; /* [n_ids + 1] into bytes; each piece is followed by one 0 byte */
    char *bytes;
};

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes padded base64 to at most n / 4 * 3 bytes. Returns their number, or -1 if text is not padded base64. */
static int base64_decode(const char *text, size_t n, char *out)
{
    char *o = out;
    if (n % 4) return -1;
    for (size_t i = 0; i < n; i += 4) {
        int pad = i + 4 < n ? 0 : (text[i + 3] == '=') + (text[i + 3] == '=' && text[i + 2] == '=');
        int bits = 0;
        for (int k = 0; k < 4; k++) {
            int d = k < 4 - pad ? base64_digit(text[i + (size_t)k]) : 0;
            if (d < 0) return -1;
            bits = bits << 6 | d;
        }
        *o++ = (char)(bits >> 16);
        if (pad < 2) *o++ = (char)(bits >> 8);
        if (pad < 1) *o++ = (char)bits;
        if (bits & (pad == 2 ? 0xffff : pad == 1 ? 0xff : 0)) return -1;
    }
    return (int)(o - out);
}

/* ---- the entries of vocab ----
 * As jansson values, all entries would take about 100 MB in the published file, and gigabytes in a hostile one. So the
 * array is split here, by strings, brackets and commas, and jansson parses one entry at a time. */

struct entries {
    const char *begin, *end; /* the array with its brackets; NULL: the file has none */
    const char *at;          /* after the bracket or comma that precedes the next entry */
    int n;                   /* entries read */
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && is_blank(*at)) at++;
    return at;
}

/* Returns the first comma, colon or closing bracket after the value or key at `at`; end if there is none. */
static const char *skip_value(const char *at, const char *end)
{
    size_t depth = 0;
    for (; at < end; at++) {
        if (*at == '"') {
            for (at++; at < end && *at != '"'; at++) at += *at == '\\' && at + 1 < end;
            if (at == end) return end;
        } else if (*at == '[' || *at == '{') {
            depth++;
        } else if (*at == ']' || *at == '}') {
            if (depth-- == 0) return at;
        } else if ((*at == ',' || *at == ':') && depth == 0) {
            return at;
        }
    }
    return end;
}

/* Finds the value of "vocab" in the outermost object. Invalid JSON ends the search; the parser reports it later. */
static int find_entries(struct entries *e, const char *json, size_t n_bytes)
{
    static const char name[] = "\"vocab\"";
    const char *end = json + n_bytes, *at = skip_blanks(json, end);
    *e = (struct entries){0};
    while (at < end && (*at == '{' || *at == ',')) {
        const char *key = skip_blanks(at + 1, end), *colon = skip_value(key, end);
        if (colon == end || *colon != ':') break;
        const char *value = skip_blanks(colon + 1, end);
        at = skip_value(value, end);
        if ((size_t)(colon - key) < strlen(name) || memcmp(key, name, strlen(name)) != 0) continue;
        if (value == end || *value != '[') break;
        const char *last = at;
        while (is_blank(last[-1])) last--;
        if (at == end || last[-1] != ']') return sur_fail(SUR_ERR_MODEL, "tekken.json: broken JSON: vocab has no end");
        *e = (struct entries){.begin = value, .end = last, .at = value + 1};
        break;
    }
    return SUR_OK;
}

/* Parses the next entry; the caller owns *entry. After the last entry it is NULL. */
static int next_entry(struct entries *e, json_t **entry)
{
    const char *last = e->end - 1, *at = skip_blanks(e->at, last), *stop = skip_value(at, last);
    char where[48];
    *entry = NULL;
    if (e->at == e->end || (at == last && e->n == 0)) return SUR_OK;
    if (e->n == MAX_ENTRIES)
        return sur_fail(SUR_ERR_MODEL, "tekken.json: vocab holds more than %d entries", MAX_ENTRIES);
    snprintf(where, sizeof where, "tekken.json: vocab[%d]", e->n);
    if (stop < last && *stop != ',')
        return sur_fail(SUR_ERR_MODEL, "%s: broken JSON: '%c' instead of a comma after it", where, *stop);
    e->at = stop + 1;
    e->n++;
    return sur_json_parse(entry, where, at, (size_t)(stop - at), MAX_ENTRY_MEMORY, JSON_ALLOW_NUL);
}

/* Parses the text with an empty array instead of the entries. It keeps their newlines, so that line numbers in errors
 * are right. */
static int parse_rest(json_t **root, const struct entries *e, const char *json, size_t n_bytes)
{
    const size_t n_head = e->begin ? (size_t)(e->begin - json) + 1 : 0,
                 tail = e->begin ? (size_t)(e->end - json) - 1 : 0, n_tail = n_bytes - tail;
    size_t n_lines = 0;
    for (size_t i = n_head; i < tail; i++) n_lines += json[i] == '\n';
    const size_t n = n_head + n_lines + n_tail;
    *root = NULL;
    if (n > MAX_REST_BYTES)
        return sur_fail(SUR_ERR_MODEL, "tekken.json: more than %d bytes besides vocab", MAX_REST_BYTES);
    char *text = malloc(n ? n : 1);
    if (!text) return sur_fail(SUR_ERR_MEMORY, "tekken.json: out of memory");
    memcpy(text, json, n_head);
    memset(text + n_head, '\n', n_lines);
    memcpy(text + n_head + n_lines, json + tail, n_tail);
    int rc = sur_json_parse(root, "tekken.json", text, n, MAX_REST_MEMORY, JSON_ALLOW_NUL);
    free(text);
    return rc;
}

/* ---- the rest of the file ---- */

static int read_config(const json_t *root, int vocab_size, struct sur_tekken_info *info)
{
    const json_t *config;
    int rc = sur_json_object(root, "tekken.json: ", "config", &config);
    if (rc != SUR_OK) return rc;
    return sur_json_int(config, "tekken.json: config.", "default_num_special_tokens", 1, vocab_size - 1,
                        &info->n_special);
}

static int read_audio(const json_t *root, struct sur_tekken_info *info)
{
    static const char path[] = "tekken.json: audio.";
    const json_t *audio;
    int rc = sur_json_object(root, "tekken.json: ", "audio", &audio);
    if (rc == SUR_OK)
        rc = sur_json_int(audio, path, "streaming_n_left_pad_tokens", 1, SUR_MAX_LEFT_PAD, &info->n_left_pad);
    if (rc == SUR_OK)
        rc = sur_json_int(audio, path, "transcription_delay_ms", SUR_TOKEN_MS, SUR_DELAY_MAX_MS, &info->delay_ms);
    if (rc != SUR_OK) return rc;
    if (sur_delay_check(info->delay_ms) != SUR_OK)
        return sur_fail(SUR_ERR_MODEL, "%stranscription_delay_ms must be 80 to 1200 in steps of 80, or 2400", path);
    return SUR_OK;
}

/* Notes the id of a special token that the model needs. */
static int note_special(struct sur_tekken_info *info, const char *where, const char *name, int rank)
{
    struct {
        const char *name;
        int32_t *id;
    } wanted[] = {
        {"<s>", &info->bos}, {"</s>", &info->eos}, {"[STREAMING_PAD]", &info->pad}, {"[STREAMING_WORD]", &info->word}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (strcmp(name, wanted[i].name) != 0) continue;
        if (*wanted[i].id >= 0) return sur_fail(SUR_ERR_MODEL, "%s: %s is listed twice", where, name);
        *wanted[i].id = rank;
    }
    return SUR_OK;
}

static int check_specials(const struct sur_tekken_info *info, const char *where)
{
    const char *missing = info->bos < 0    ? "<s>"
                          : info->eos < 0  ? "</s>"
                          : info->pad < 0  ? "[STREAMING_PAD]"
                          : info->word < 0 ? "[STREAMING_WORD]"
                                           : NULL;
    return missing ? sur_fail(SUR_ERR_MODEL, "%s: %s is missing", where, missing) : SUR_OK;
}

/* names [n_special]: the special tokens' names, owned by the JSON; NULL where the file has none. */
static int read_specials(const json_t *root, struct sur_tekken_info *info, const char **names)
{
    const json_t *list = json_object_get(root, "special_tokens");
    if (!json_is_array(list)) return sur_fail(SUR_ERR_MODEL, "tekken.json: special_tokens is missing");
    size_t n = json_array_size(list);
    info->bos = info->eos = info->pad = info->word = -1;
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i);
        char path[64];
        int rank;
        snprintf(path, sizeof path, "tekken.json: special_tokens[%zu].", i);
        if (!json_is_object(o)) return sur_fail(SUR_ERR_MODEL, "tekken.json: special_tokens[%zu] must be an object", i);
        int rc = sur_json_int(o, path, "rank", 0, info->n_special - 1, &rank);
        if (rc != SUR_OK) return rc;
        const json_t *text = json_object_get(o, "token_str");
        const char *name = json_string_value(text);
        if (!name || json_string_length(text) > MAX_PIECE_BYTES || strlen(name) != json_string_length(text) || !*name)
            return sur_fail(SUR_ERR_MODEL, "%stoken_str must be a string of 1 to %d bytes", path, MAX_PIECE_BYTES);
        if (names[rank]) return sur_fail(SUR_ERR_MODEL, "%srank: %d is listed twice", path, rank);
        names[rank] = name;
        if ((rc = note_special(info, SPECIAL, name, rank)) != SUR_OK) return rc;
    }
    return check_specials(info, SPECIAL);
}

/* Writes the piece to out [MAX_PIECE_BYTES]. Returns its number of bytes, or an error. */
static int read_entry(const json_t *o, int i, char *out)
{
    const json_t *rank = json_object_get(o, "rank"), *text = json_object_get(o, "token_bytes");
    char piece[MAX_PIECE_BYTES + 2]; /* a multiple of 3 */
    if (!json_is_integer(rank) || json_integer_value(rank) != i)
        return sur_fail(SUR_ERR_MODEL, "tekken.json: vocab[%d].rank must be %d", i, i);
    if (!json_is_string(text)) return sur_fail(SUR_ERR_MODEL, "tekken.json: vocab[%d].token_bytes is missing", i);
    const size_t n_text = json_string_length(text);
    const int n = n_text <= sizeof piece / 3 * 4 ? base64_decode(json_string_value(text), n_text, piece) : 0;
    if (n < 0) return sur_fail(SUR_ERR_MODEL, "tekken.json: vocab[%d].token_bytes is not base64", i);
    if (n < 1 || n > MAX_PIECE_BYTES)
        return sur_fail(SUR_ERR_MODEL, "tekken.json: vocab[%d].token_bytes must be 1 to %d bytes", i, MAX_PIECE_BYTES);
    memcpy(out, piece, (size_t)n);
    return n;
}

/* Entries beyond the model's ids are parsed, too: the whole file must be valid. */
static int read_entries(struct sur_tekken *t, struct entries *e, uint32_t at)
{
    const int n_text = t->n_ids - t->info.n_special;
    for (;;) {
        json_t *entry;
        int i = e->n, n = next_entry(e, &entry);
        if (n != SUR_OK) return n;
        if (!entry) break;
        if (i < n_text) n = read_entry(entry, i, t->bytes + at);
        json_decref(entry);
        if (n < 0) return n;
        if (i >= n_text) continue;
        t->offsets[t->info.n_special + i] = at;
        t->bytes[at + (uint32_t)n] = 0;
        at += (uint32_t)n + 1;
    }
    if (e->n < n_text)
        return sur_fail(SUR_ERR_MODEL, "tekken.json: vocab holds %d entries, the model needs %d", e->n, n_text);
    t->offsets[t->n_ids] = at;
    t->info.n_entries = e->n;
    char *fit = realloc(t->bytes, at);
    if (fit) t->bytes = fit;
    return SUR_OK;
}

static int fill(struct sur_tekken *t, struct entries *e, const char **names)
{
    /* An entry's text is longer than its piece with a 0 byte. The sum is at most the file's size and 32 MiB, which fits
     * uint32_t. */
    size_t n_bytes = (size_t)(e->end - e->begin) + MAX_PIECE_BYTES;
    uint32_t at = 0;
    for (int i = 0; i < t->info.n_special; i++) n_bytes += names[i] ? strlen(names[i]) + 1 : 32;
    t->bytes = malloc(n_bytes);
    if (!t->bytes) return sur_fail(SUR_ERR_MEMORY, "tekken.json: out of memory");
    for (int i = 0; i < t->info.n_special; i++) {
        t->offsets[i] = at;
        if (names[i])
            at += (uint32_t)strlen(strcpy(t->bytes + at, names[i])) + 1;
        else
            at += (uint32_t)snprintf(t->bytes + at, 32, "<SPECIAL_%d>", i) + 1;
    }
    return read_entries(t, e, at);
}

static int build(struct sur_tekken *t, struct entries *e, const json_t *root, int vocab_size)
{
    int rc = read_config(root, vocab_size, &t->info);
    if (rc != SUR_OK) return rc;
    if (!e->begin) return sur_fail(SUR_ERR_MODEL, "tekken.json: vocab is missing");
    t->n_ids = vocab_size;
    const char **names = calloc((size_t)t->info.n_special, sizeof *names);
    t->offsets = calloc((size_t)vocab_size + 1, sizeof *t->offsets);
    if (!names || !t->offsets) rc = sur_fail(SUR_ERR_MEMORY, "tekken.json: out of memory");
    if (rc == SUR_OK) rc = read_specials(root, &t->info, names);
    if (rc == SUR_OK) rc = fill(t, e, names);
    if (rc == SUR_OK) rc = read_audio(root, &t->info);
    free(names);
    return rc;
}

int sur_tekken_parse(struct sur_tekken **tekken, const char *json, size_t n_bytes, int vocab_size)
{
    *tekken = NULL;
    if (vocab_size < 2 || vocab_size > MAX_IDS)
        return sur_fail(SUR_ERR_MODEL, "tekken.json: a vocabulary of %d ids is not within 2 to %d", vocab_size,
                        MAX_IDS);
    if (n_bytes > MAX_FILE_BYTES) return sur_fail(SUR_ERR_MODEL, "tekken.json: more than %d bytes", MAX_FILE_BYTES);
    struct entries entries;
    json_t *root = NULL;
    int rc = find_entries(&entries, json, n_bytes);
    if (rc == SUR_OK) rc = parse_rest(&root, &entries, json, n_bytes);
    if (rc != SUR_OK) return rc;
    struct sur_tekken *t = calloc(1, sizeof *t);
    rc = t ? build(t, &entries, root, vocab_size) : sur_fail(SUR_ERR_MEMORY, "tekken.json: out of memory");
    json_decref(root);
    if (rc != SUR_OK) sur_tekken_destroy(&t);
    *tekken = t;
    return rc;
}

static int copy(struct sur_tekken *t, const char *where, const struct sur_tekken_token *tokens)
{
    size_t n_bytes = 0;
    for (int i = 0; i < t->n_ids; i++) {
        bool special = i < t->info.n_special;
        if (tokens[i].n_bytes < 1 || tokens[i].n_bytes > MAX_PIECE_BYTES ||
            (special && memchr(tokens[i].bytes, 0, tokens[i].n_bytes)))
            return sur_fail(SUR_ERR_MODEL, "%s: token %d must have 1 to %d bytes%s", where, i, MAX_PIECE_BYTES,
                            special ? ", none of them 0" : "");
        n_bytes += tokens[i].n_bytes + 1;
    }
    t->offsets = calloc((size_t)t->n_ids + 1, sizeof *t->offsets);
    t->bytes = malloc(n_bytes); /* at most 2^20 pieces of 257 bytes, which fits uint32_t */
    if (!t->offsets || !t->bytes) return sur_fail(SUR_ERR_MEMORY, "%s: out of memory", where);
    char *to = t->bytes;
    for (int i = 0; i < t->n_ids; i++) {
        t->offsets[i] = (uint32_t)(to - t->bytes);
        memcpy(to, tokens[i].bytes, tokens[i].n_bytes);
        to[tokens[i].n_bytes] = 0;
        int rc = i < t->info.n_special ? note_special(&t->info, where, to, i) : SUR_OK;
        if (rc != SUR_OK) return rc;
        to += tokens[i].n_bytes + 1;
    }
    t->offsets[t->n_ids] = (uint32_t)(to - t->bytes);
    return check_specials(&t->info, where);
}

int sur_tekken_create(struct sur_tekken **tekken, const char *where, const struct sur_tekken_info *info,
                      const struct sur_tekken_token *tokens, int n_ids)
{
    struct sur_tekken *t = calloc(1, sizeof *t);
    *tekken = NULL;
    if (!t) return sur_fail(SUR_ERR_MEMORY, "%s: out of memory", where);
    t->info = *info;
    t->info.n_entries = n_ids - info->n_special;
    t->info.bos = t->info.eos = t->info.pad = t->info.word = -1;
    t->n_ids = n_ids;
    int rc = copy(t, where, tokens);
    if (rc != SUR_OK) sur_tekken_destroy(&t);
    *tekken = t;
    return rc;
}

void sur_tekken_destroy(struct sur_tekken **tekken)
{
    if (!*tekken) return;
    free((*tekken)->offsets);
    free((*tekken)->bytes);
    free(*tekken);
    *tekken = NULL;
}

const struct sur_tekken_info *sur_tekken_info(const struct sur_tekken *tekken)
{
    return &tekken->info;
}

const char *sur_tekken_piece(const struct sur_tekken *tekken, int32_t id, size_t *n_bytes, int *special)
{
    *special = id < tekken->info.n_special;
    *n_bytes = tekken->offsets[id + 1] - tekken->offsets[id] - 1;
    return tekken->bytes + tekken->offsets[id];
}
