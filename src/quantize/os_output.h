/* The file that is written: it appears complete or not at all. It is written under a temporary name in the same folder,
 * and renamed at the end. One at a time.
 *
 * Thread-safety: main thread only, except os_output_write.
 * Errors: errno. */
#ifndef QUANTIZE_OS_OUTPUT_H
#define QUANTIZE_OS_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Handles SIGBUS from a mapped file of the model, which was truncated or cannot be read: prints one line, removes the
 * temporary file, and ends the program with this status. */
void os_output_catch_faults(int status);
/* Creates the temporary file for path and allocates n_bytes, so that a full disk is known at once. A signal that ends
 * the process removes it. Returns its descriptor, or -1. */
int os_output_create(const char *path, uint64_t n_bytes);
/* Writes all n bytes; false on failure. Any thread. */
bool os_output_write(int fd, const void *bytes, size_t n, uint64_t offset);
/* keep: flushes the file and renames it to path. Otherwise, or on failure, removes it. Returns false on failure. */
bool os_output_close(int fd, bool keep);

#endif
