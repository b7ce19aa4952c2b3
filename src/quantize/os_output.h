/* A file that appears whole or not at all: written under another name beside its own, then renamed. */
#ifndef QUANTIZE_OS_OUTPUT_H
#define QUANTIZE_OS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* When a file of the model that is mapped was cut or cannot be read: one line, no file left behind, and the program
 * ends with this status. */
void os_catch_faults(int status);
/* Whether both paths lead to the same file or folder. */
bool os_same_file(const char *a, const char *b);
/* Makes the file beside path, of n_bytes, so that a full disk is known at once. A signal that ends the process removes
 * it. One at a time. Returns its descriptor, or -1 with errno. */
int os_output_create(const char *path, uint64_t n_bytes);
/* Any thread; false with errno. */
bool os_output_write(int fd, const void *bytes, size_t n, uint64_t offset);
/* Flushes, renames; or (keep false) removes it. False with errno: it did not work, and nothing is left. */
bool os_output_close(int fd, bool keep);

#endif
