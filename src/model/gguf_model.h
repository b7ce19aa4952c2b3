/* The parts of a GGUF file of this architecture (general.architecture voxtral_realtime, as transcribe.cpp writes it)
 * besides its weights: sizes, vocabulary, and tables of the frontend, which must equal those that surtitle computes.
 *
 * Errors: SUR_ERR_MODEL or SUR_ERR_MEMORY, with a line that begins with the file's name. */
#ifndef SUR_MODEL_GGUF_MODEL_H
#define SUR_MODEL_GGUF_MODEL_H

#include "model/gguf.h"
#include "model/params.h"
#include "text/tekken.h"

#define SUR_GGUF_ARCHITECTURE "voxtral_realtime"
#define SUR_GGUF_PREFIX       "stt." SUR_GGUF_ARCHITECTURE "."

/* Checks the architecture and all values that it fixes, and reads the sizes. */
int sur_gguf_params(const struct sur_gguf *file, struct sur_params *params);
/* On success the caller owns *tekken. */
int sur_gguf_tekken(const struct sur_gguf *file, const struct sur_params *params, struct sur_tekken **tekken);
/* Compares the tables in the file with those that surtitle computes. A missing table is accepted. */
int sur_gguf_check_tables(const struct sur_gguf *file, const struct sur_params *params);
/* The three tables that surtitle computes: names, shapes (rows 0: a vector), and values [rows * cols]. */
struct sur_gguf_table {
    const char *name;
    int rows, cols;
};
enum { SUR_GGUF_TABLES = 3 };
void sur_gguf_table(const struct sur_params *params, int i, struct sur_gguf_table *table);
int sur_gguf_table_values(const struct sur_params *params, int i, float *values);

/* Returns the character that stands for a byte in a GGUF vocabulary: 33 to 126, 161 to 172 and 174 to
 * 255 stand for themselves, the others in ascending order are U+0100 and on. */
uint32_t sur_gguf_letter(uint8_t byte);

#endif
