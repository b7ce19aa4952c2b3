/* The vocabulary (tekken.json in Mistral's layout): token ids to bytes, the special tokens, and the streaming settings.
 *
 * Ids below n_special are special tokens. Id n_special + i is vocabulary entry i: bytes that may hold a part of a UTF-8
 * character, or the byte 0. The file may list more entries than the model uses.
 *
 * Thread-safety: immutable after it was created, so any number of threads may read it.
 * Errors: SUR_ERR_MODEL with a line that names what is wrong; SUR_ERR_MEMORY. On failure *tekken is NULL. */
#ifndef SUR_TEXT_TEKKEN_H
#define SUR_TEXT_TEKKEN_H

#include <stddef.h>
#include <stdint.h>

struct sur_tekken;

enum { SUR_MAX_LEFT_PAD = 161 }; /* tokens; bounds the prompt, which must fit into the ring of rows */

struct sur_tekken_info {
    int n_special, n_entries;    /* default_num_special_tokens; number of entries listed */
    int32_t bos, eos, pad, word; /* ids of <s>, </s>, [STREAMING_PAD], [STREAMING_WORD] */
    int n_left_pad;              /* audio.streaming_n_left_pad_tokens */
    int delay_ms;                /* audio.transcription_delay_ms */
};

/* Parses the text of tekken.json. vocab_size: number of the model's ids, for each of which the file must have a token.
 */
int sur_tekken_parse(struct sur_tekken **tekken, const char *json, size_t n_bytes, int vocab_size);

struct sur_tekken_token {
    const char *bytes; /* not terminated */
    size_t n_bytes;
};
/* Creates the vocabulary from another file's contents: tokens [n_ids], by id. The special tokens are found by name.
 * Uses n_special, n_left_pad and delay_ms of info. Copies the tokens. where: begins error lines
 * ("model.gguf: tokenizer.ggml.tokens"). */
int sur_tekken_create(struct sur_tekken **tekken, const char *where, const struct sur_tekken_info *info,
                      const struct sur_tekken_token *tokens, int n_ids);
void sur_tekken_destroy(struct sur_tekken **tekken);
const struct sur_tekken_info *sur_tekken_info(const struct sur_tekken *tekken);
/* Returns the bytes of a text token, or the name of a special one (*special is set to 1). The bytes belong to tekken.
 * Never NULL for 0 <= id < vocab_size. */
const char *sur_tekken_piece(const struct sur_tekken *tekken, int32_t id, size_t *n_bytes, int *special);

#endif
