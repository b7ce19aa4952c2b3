/* The metadata keys of the GGUF file, as transcribe.cpp writes them for this architecture.
 *
 * Thread-safety: one thread at a time per buffer. Errors: those of the buffer. */
#ifndef QUANTIZE_KEYS_H
#define QUANTIZE_KEYS_H

#include "model/checkpoint.h"
#include "quantize/buffer.h"

/* Appends the keys of a checkpoint. From a GGUF file all keys are copied, with general.file_type
 * changed to file_type and without general.alignment. For a folder they are made from its sizes and vocabulary. */
void keys_append(struct buffer *b, const struct sur_checkpoint *checkpoint, uint32_t file_type);

#endif
