#include "sink/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "surtitle.h"
#include "util/clock.h"
#include "util/failure.h"
#include "util/os_file.h"

static bool (*hurry)(void);

int output_open(struct output *o, const char *path)
{
    struct os_file file = {.descriptor = STDOUT_FILENO}; /* if there is no path */
    memset(o, 0, sizeof *o);
    o->name = path ? path : "standard output";
    if (path) os_file_find(&file, path);
    o->fd = os_file_moved(file.descriptor);
    if (file.descriptor == STDOUT_FILENO || file.descriptor == STDERR_FILENO) return SUR_OK;
    do {
        o->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    } while (o->fd < 0 && errno == EINTR && !(hurry && hurry()));
    if (o->fd < 0 && errno == EINTR)
        return failure(SUR_ERR_IO, "cannot write %s: nothing has opened it for reading", path);
    if (o->fd < 0) return failure(SUR_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    o->owned = true;
    return SUR_OK;
}

int output_close(struct output *o)
{
    int status = SUR_OK;
    if (o->owned && close(o->fd) != 0 && errno != EINTR)
        status = failure(SUR_ERR_IO, "cannot write %s: %s", o->name, strerror(errno));
    free(o->data);
    memset(o, 0, sizeof *o);
    o->fd = -1;
    return status;
}

bool output_is_terminal(const struct output *o)
{
    return isatty(o->fd) == 1;
}

static bool reserve(struct output *o, size_t more)
{
    if (o->size - o->n >= more) return true;
    size_t size = o->size ? o->size : 4096;
    while (size - o->n < more) {
        if (size > SIZE_MAX / 2) break;
        size *= 2;
    }
    char *data = size - o->n >= more ? realloc(o->data, size) : NULL;
    if (!data) {
        o->no_memory = true;
        return false;
    }
    o->data = data;
    o->size = size;
    return true;
}

void output_append(struct output *o, const char *bytes, size_t n)
{
    if (n == 0 || !reserve(o, n)) return;
    memcpy(o->data + o->n, bytes, n);
    o->n += n;
}

void output_printf(struct output *o, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    if (n >= 0 && reserve(o, (size_t)n + 1)) {
        vsnprintf(o->data + o->n, (size_t)n + 1, format, again);
        o->n += (size_t)n;
    }
    va_end(again);
    va_end(args);
}

void output_set_stop_check(bool (*asked)(void))
{
    hurry = asked;
}

/* Returns whether a write in a hurry has made no progress for OUTPUT_HURRY_S; errno is ETIMEDOUT then. *since: when
 * hurry() first returned true after the last progress, 0 if it has not. */
static bool hurry_is_over(int64_t *since)
{
    if (!hurry || !hurry()) return false;
    int64_t now = sur_clock_ns();
    if (*since == 0) *since = now;
    if (now - *since < (int64_t)OUTPUT_HURRY_S * 1000000000) return false;
    errno = ETIMEDOUT;
    return true;
}

int output_write_all(int fd, const char *bytes, size_t n)
{
    int64_t since = 0;
    while (n > 0) {
        ssize_t wrote = write(fd, bytes, n);
        if (wrote >= 0) {
            bytes += wrote;
            n -= (size_t)wrote;
            since = 0;
        } else if (errno == EAGAIN) { /* another process made the pipe non-blocking */
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            if (poll(&p, 1, -1) < 0 && (errno != EINTR || hurry_is_over(&since))) return -1;
        } else if (errno != EINTR || hurry_is_over(&since)) {
            return -1;
        }
    }
    return SUR_OK;
}

int output_flush(struct output *o)
{
    size_t n = o->n;
    o->n = 0;
    if (o->closed) return OUTPUT_CLOSED;
    if (o->no_memory) return failure(SUR_ERR_MEMORY, "not enough memory for a line of output");
    if (output_write_all(o->fd, o->data, n) == 0) return SUR_OK;
    /* the reader has gone, or standard output was closed when the program started */
    bool gone = errno == EPIPE || (errno == EBADF && !o->owned);
    if (errno == ETIMEDOUT && hurry && hurry()) {
        o->closed = true;
        return failure(SUR_ERR_IO, "%s is not being read: the rest is lost", o->name);
    }
    if (!gone) return failure(SUR_ERR_IO, "cannot write %s: %s", o->name, strerror(errno));
    o->closed = true;
    return OUTPUT_CLOSED;
}
