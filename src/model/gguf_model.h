/* What a GGUF file of this architecture (general.architecture voxtral_realtime, as transcribe.cpp writes it) says
 * beside its weights: sizes, vocabulary, and tables of the frontend, which must be those that we compute. Every failure
 * is SUR_ERR_MODEL or SUR_ERR_MEMORY with a line that begins with the file's name. */
#ifndef SUR_MODEL_GGUF_MODEL_H
#define SUR_MODEL_GGUF_MODEL_H

#include "model/gguf.h"
#include "model/params.h"
#include "text/tekken.h"

#define SUR_GGUF_ARCHITECTURE "voxtral_realtime"
#define SUR_GGUF_PREFIX       "stt." SUR_GGUF_ARCHITECTURE "."

/* Checks the architecture and all that it leaves no choice about, and reads the sizes. */
int sur_gguf_params(const struct sur_gguf *file, struct sur_params *params);
/* On success *tekken is the caller's. */
int sur_gguf_tekken(const struct sur_gguf *file, const struct sur_params *params, struct sur_tekken **tekken);
/* Compares the tables that the file holds with ours. A table that is not there is right. */
int sur_gguf_check_tables(const struct sur_gguf *file, const struct sur_params *params);
/* Ours: the names of the three tables, their shapes (rows 0: a vector), and their values, [rows * cols]. */
struct sur_gguf_table {
    const char *name;
    int rows, cols;
};
enum { SUR_GGUF_TABLES = 3 };
void sur_gguf_table(const struct sur_params *params, int i, struct sur_gguf_table *table);
int sur_gguf_table_values(const struct sur_params *params, int i, float *values);

/* The alphabet in which a vocabulary's bytes are written, a character for each byte: 33 to 126, 161 to 172 and 174 to
 * 255 stand for themselves, the others in ascending order are U+0100 and on. */
uint32_t sur_gguf_letter(uint8_t byte);

#endif
