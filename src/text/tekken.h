/* The vocabulary (tekken.json in Mistral's layout): token id to bytes, the special tokens, and the streaming settings.
 * Immutable after open.
 * Ids below n_special are special; id n_special + i is vocabulary entry i, a byte string that may hold a part of a
 * UTF-8 character, or the byte 0. The file may list more entries than the model uses. */
#ifndef SUR_TEXT_TEKKEN_H
#define SUR_TEXT_TEKKEN_H

#include <stddef.h>
#include <stdint.h>

struct sur_tekken;

struct sur_tekken_info {
    int n_special, n_entries;            /* default_num_special_tokens; entries listed */
    int32_t bos, eos, pad, word;         /* <s>, </s>, [STREAMING_PAD], [STREAMING_WORD] */
    int n_left_pad;                      /* audio.streaming_n_left_pad_tokens */
    int delay_ms;                        /* audio.transcription_delay_ms */
};

/* Parses the text of tekken.json. vocab_size: how many ids the model has; every id below must be covered.
 * SUR_ERR_MODEL names what is wrong. */
int sur_tekken_parse(struct sur_tekken **tekken, const char *json, size_t n_bytes, int vocab_size);
/* The same from what another file holds: tokens [n_ids] by id, special ones by name. Of info n_special, n_left_pad and
 * delay_ms are taken. where begins error lines ("model.gguf: tokenizer.ggml.tokens"). Copies. */
struct sur_tekken_token {
    const char *bytes; /* not terminated */
    size_t n_bytes;
};
int sur_tekken_create(struct sur_tekken **tekken, const char *where, const struct sur_tekken_info *info,
                      const struct sur_tekken_token *tokens, int n_ids);
void sur_tekken_destroy(struct sur_tekken **tekken);
const struct sur_tekken_info *sur_tekken_info(const struct sur_tekken *tekken);
/* The bytes of a text token, or the name of a special one (*special set). Never NULL for 0 <= id < vocab_size. */
const char *sur_tekken_piece(const struct sur_tekken *tekken, int32_t id, size_t *n_bytes, int *special);

#endif
