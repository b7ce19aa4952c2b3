#include "text/tekken.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "util/error.h"
#include "util/json_read.h"

enum {
    MAX_FILE_BYTES = 128 << 20,
    MAX_VALUES = 9 << 20, /* 2^20 entries of three fields, each counted with its name, and room */
    MAX_IDS = 1 << 20,
    MAX_PIECE_BYTES = 256, /* the longest published piece has 78 */
    MAX_LEFT_PAD = 161,    /* with the longest delay (30) and BOS the prompt must fit 192 rows: session.c */
};

#define SPECIAL "tekken.json: special_tokens"

struct sur_tekken {
    struct sur_tekken_info info;
    int n_ids;
    uint32_t *offsets; /* [n_ids + 1] into bytes; a piece is followed by one 0 byte */
    char *bytes;
};

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Writes at most n / 4 * 3 bytes. Returns how many, or -1 when text is not padded base64. */
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
    if (rc == SUR_OK) rc = sur_json_int(audio, path, "streaming_n_left_pad_tokens", 1, MAX_LEFT_PAD, &info->n_left_pad);
    if (rc == SUR_OK) rc = sur_json_int(audio, path, "transcription_delay_ms", 80, 2400, &info->delay_ms);
    if (rc != SUR_OK) return rc;
    if (info->delay_ms % 80 || (info->delay_ms > 1200 && info->delay_ms != 2400))
        return sur_fail(SUR_ERR_MODEL, "%stranscription_delay_ms must be 80 to 1200 in steps of 80, or 2400", path);
    return SUR_OK;
}

/* The names that the model cannot do without. */
static int note_special(struct sur_tekken_info *info, const char *where, const char *name, int rank)
{
    struct {
        const char *name;
        int32_t *id;
    } wanted[] = {
        {"<s>", &info->bos}, {"</s>", &info->eos}, {"[STREAMING_PAD]", &info->pad}, {"[STREAMING_WORD]", &info->word}};
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (strcmp(name, wanted[i].name) != 0) continue;
        if (*wanted[i].id >= 0) return sur_fail(SUR_ERR_MODEL, "%s: %s stands twice", where, name);
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

/* names [n_special]: where each special token's name lies in the JSON; NULL where the file names none. */
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
        if (names[rank]) return sur_fail(SUR_ERR_MODEL, "%srank: %d stands twice", path, rank);
        names[rank] = name;
        if ((rc = note_special(info, SPECIAL, name, rank)) != SUR_OK) return rc;
    }
    return check_specials(info, SPECIAL);
}

/* The most that the pieces can need: names or a made-up name, decoded base64, and a 0 after each. */
static size_t bytes_needed(const json_t *vocab, const struct sur_tekken_info *info, const char **names, int n_text)
{
    size_t n = 0;
    for (int i = 0; i < info->n_special; i++) n += names[i] ? strlen(names[i]) + 1 : 32;
    for (int i = 0; i < n_text; i++)
        n += json_string_length(json_object_get(json_array_get(vocab, (size_t)i), "token_bytes")) / 4 * 3 + 1;
    return n;
}

static int read_entry(const json_t *o, int i, char *out)
{
    const json_t *rank = json_object_get(o, "rank"), *text = json_object_get(o, "token_bytes");
    if (!json_is_integer(rank) || json_integer_value(rank) != i)
        return sur_fail(SUR_ERR_MODEL, "tekken.json: vocab[%d].rank must be %d", i, i);
    if (!json_is_string(text)) return sur_fail(SUR_ERR_MODEL, "tekken.json: vocab[%d].token_bytes is missing", i);
    int n = base64_decode(json_string_value(text), json_string_length(text), out);
    if (n < 0) return sur_fail(SUR_ERR_MODEL, "tekken.json: vocab[%d].token_bytes is not base64", i);
    if (n < 1 || n > MAX_PIECE_BYTES)
        return sur_fail(SUR_ERR_MODEL, "tekken.json: vocab[%d].token_bytes must be 1 to %d bytes", i, MAX_PIECE_BYTES);
    return n;
}

static int fill(struct sur_tekken *t, const json_t *vocab, const char **names)
{
    uint32_t at = 0;
    for (int id = 0; id < t->n_ids; id++) {
        int n;
        t->offsets[id] = at;
        if (id >= t->info.n_special)
            n = read_entry(json_array_get(vocab, (size_t)(id - t->info.n_special)), id - t->info.n_special,
                           t->bytes + at);
        else if (names[id])
            n = (int)strlen(memcpy(t->bytes + at, names[id], strlen(names[id]) + 1));
        else
            n = snprintf(t->bytes + at, 32, "<SPECIAL_%d>", id);
        if (n < 0) return n;
        t->bytes[at + (uint32_t)n] = 0;
        at += (uint32_t)n + 1;
    }
    t->offsets[t->n_ids] = at;
    return SUR_OK;
}

static int build(struct sur_tekken *t, const json_t *root, int vocab_size)
{
    const char **names = NULL;
    const json_t *vocab = json_object_get(root, "vocab");
    int rc = read_config(root, vocab_size, &t->info);
    if (rc != SUR_OK) return rc;
    int n_text = vocab_size - t->info.n_special;
    if (!json_is_array(vocab)) return sur_fail(SUR_ERR_MODEL, "tekken.json: vocab is missing");
    if (json_array_size(vocab) < (size_t)n_text)
        return sur_fail(SUR_ERR_MODEL, "tekken.json: vocab holds %zu entries, the model needs %d",
                        json_array_size(vocab), n_text);
    t->info.n_entries = (int)json_array_size(vocab);
    t->n_ids = vocab_size;

    names = calloc((size_t)t->info.n_special, sizeof *names);
    t->offsets = calloc((size_t)vocab_size + 1, sizeof *t->offsets);
    if (!names || !t->offsets) {
        rc = sur_fail(SUR_ERR_MEMORY, "tekken.json: out of memory");
        goto out;
    }
    if ((rc = read_specials(root, &t->info, names)) != SUR_OK) goto out;
    t->bytes = malloc(bytes_needed(vocab, &t->info, names, n_text)); /* below the file's own size: fits uint32_t */
    rc = t->bytes ? fill(t, vocab, names) : sur_fail(SUR_ERR_MEMORY, "tekken.json: out of memory");
    if (rc == SUR_OK) rc = read_audio(root, &t->info);
out:
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
    json_t *root = NULL;
    int rc = sur_json_parse(&root, "tekken.json", json, n_bytes, MAX_VALUES, JSON_ALLOW_NUL);
    if (rc != SUR_OK) return rc;
    struct sur_tekken *t = calloc(1, sizeof *t);
    rc = t ? build(t, root, vocab_size) : sur_fail(SUR_ERR_MEMORY, "tekken.json: out of memory");
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
    t->bytes = malloc(n_bytes); /* at most 2^20 pieces of 257: fits uint32_t */
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
