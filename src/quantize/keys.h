/* The keys of the file that is written: those of transcribe.cpp's files of this architecture. */
#ifndef QUANTIZE_KEYS_H
#define QUANTIZE_KEYS_H

#include "model/checkpoint.h"
#include "quantize/buffer.h"

/* Appends the keys of a checkpoint and returns how many: a GGUF file's own, of which general.file_type becomes
 * file_type and general.alignment is left out; a folder's made from its sizes and vocabulary. */
uint64_t keys_append(struct buffer *b, const struct sur_checkpoint *checkpoint, uint32_t file_type);

#endif
