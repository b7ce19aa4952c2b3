/* tekken.json for a model whose number of ids is the first byte. In an accepted file every id must have a piece. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "text/tekken.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    struct sur_tekken *t = NULL;
    if (size < 1) return 0;
    int vocab_size = input[0] & 63; /* the digit 8 means 56 ids, a space 32, ... */
    if (sur_tekken_parse(&t, (const char *)input + 1, size - 1, vocab_size) == 0) {
        const struct sur_tekken_info *info = sur_tekken_info(t);
        if (info->n_special < 1 || info->n_special >= vocab_size || info->n_special + info->n_entries < vocab_size)
            abort();
        if (info->n_left_pad < 1 || info->n_left_pad > 192 || info->delay_ms < 80 || info->delay_ms > 2400) abort();
        for (int id = 0; id < vocab_size; id++) {
            size_t n;
            int special;
            const char *piece = sur_tekken_piece(t, id, &n, &special);
            if (!piece || n < 1 || n > 256 || piece[n] || special != (id < info->n_special)) abort();
        }
    } else if (t) {
        abort();
    }
    sur_tekken_destroy(&t);
    return 0;
}
