/* An output file: standard output, or a file that is written as captions arrive.
 *
 * Bytes are appended to a buffer, and leave it by output_flush, in one write(2) if the system takes them all.
 * Interrupted and partial writes are continued.
 *
 * Thread-safety: main thread only; output_append and output_printf from any one thread.
 * Errors: SUR_ERR_IO and SUR_ERR_MEMORY, each with an error line that names the output. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

/* output_flush: the reader has closed the pipe (EPIPE), or standard output was closed when the program started. This is
 * not an error, and nothing more is written. */
enum { OUTPUT_CLOSED = 1 };
enum { OUTPUT_HURRY_S = 3 };

struct output {
    int fd;
    const char *name; /* for messages; the caller's */
    bool owned;       /* output_close closes fd */
    bool closed;      /* OUTPUT_CLOSED was returned */
    bool no_memory;   /* an append failed; output_flush reports it */
    char *data;       /* appended, not written yet */
    size_t n, size;
};

/* Opens path, creating or truncating the file; NULL is standard output. A path that leads to descriptor 1 or 2
 * (/dev/stdout) is that descriptor, which is not truncated. A FIFO waits for its reader, unless the output is to hurry
 * (output_set_stop_check). SUR_ERR_IO. */
int output_open(struct output *o, const char *path);
/* Closes and frees. SUR_ERR_IO: the system reports a failed write only now (full disk, network file system). Takes a
 * zeroed output. */
int output_close(struct output *o);
bool output_is_terminal(const struct output *o);
/* Append bytes. A failure is kept for output_flush. */
void output_append(struct output *o, const char *bytes, size_t n);
void output_printf(struct output *o, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Writes the buffer and empties it, even on failure. SUR_OK, OUTPUT_CLOSED, SUR_ERR_IO, SUR_ERR_MEMORY. */
int output_flush(struct output *o);
/* Limits how long writes wait for a reader that takes nothing: once asked() returns true, a write fails after
 * OUTPUT_HURRY_S. asked is called whenever a signal interrupts a write. Applies to all outputs. NULL, the default:
 * writes wait without limit. */
void output_set_stop_check(bool (*asked)(void));
/* Writes all n bytes. SUR_OK, or -1 with errno (ETIMEDOUT: see output_set_stop_check). */
int output_write_all(int fd, const char *bytes, size_t n);

#endif
