/* Where captions go: standard output or a file, written whole or not at all as far as the system allows.
 *
 * Text is gathered with put and printf and leaves with flush, by one write(2) if the system takes it all. Interrupted
 * and partial writes are continued. Main thread only. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include <stdbool.h>
#include <stddef.h>

/* What flush returns when the reader has gone (EPIPE), or standard output was closed from the start: no failure, and
 * nothing more is written. */
enum { OUTPUT_CLOSED = 1 };
enum { OUTPUT_PATIENCE_S = 3 };

struct output {
    int fd;
    const char *name; /* for messages; the caller's */
    bool owned;       /* fd is closed by output_close */
    bool closed;      /* the reader has gone */
    bool no_memory;   /* something could not be gathered; flush says so */
    char *data;       /* gathered, not yet written */
    size_t n, size;
};

/* path NULL: standard output; else the file is made or cut to nothing. A path that leads to descriptor 1 or 2
 * (/dev/stdout) is that descriptor, as it is. A FIFO waits for its reader, but not once haste is asked for
 * (output_set_hurry). SUR_ERR_IO names the file. */
int output_open(struct output *o, const char *path);
/* Closes; a failure that shows only now (a full disk, a network file system) is SUR_ERR_IO. Takes a zeroed output. */
int output_close(struct output *o);
bool output_is_terminal(const struct output *o);
void output_append(struct output *o, const char *bytes, size_t n);
void output_printf(struct output *o, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* SUR_OK, OUTPUT_CLOSED, SUR_ERR_IO, SUR_ERR_MEMORY. What was gathered is gone in every case. */
int output_flush(struct output *o);
/* Once asked() is true, nobody waits for long for a reader that takes nothing: OUTPUT_PATIENCE_S after that the write
 * has failed. Asked whenever a signal interrupts a write. For all outputs; NULL: they wait for ever. */
void output_set_hurry(bool (*asked)(void));
/* write(2) until all is out: SUR_OK, or -1 with errno (ETIMEDOUT: see output_set_hurry). */
int output_write_all(int fd, const char *bytes, size_t n);

#endif
