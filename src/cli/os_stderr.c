#include "cli/os_stderr.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "util/clock.h"
#include "util/os_thread.h"

enum { LINE_BYTES = 512, LAST_BYTES = 2048, PATIENCE_MS = 500 };

static int out_fd = STDOUT_FILENO, err_fd = STDERR_FILENO; /* written before there are threads */
static atomic_bool stuck;                                  /* standard error accepted nothing at the last write */

static struct {
    bool on;
    int pipe; /* read end, non-blocking */
    pthread_t thread;
    void (*line)(const char *text);
    atomic_flag reading; /* a lock around each read; it covers the next two: */
    char last[LAST_BYTES];
    size_t n_last;
} diverted = {.reading = ATOMIC_FLAG_INIT};

/* A sanitizer's reports go to standard error, not to the log. */
extern void __sanitizer_set_report_fd(void *fd) __attribute__((weak));

int os_stdout_fd(void)
{
    return out_fd;
}

int os_stderr_fd(void)
{
    return err_fd;
}

bool os_stderr_write(const char *text, size_t n)
{
    const int64_t end = sur_clock_ns() + (atomic_load(&stuck) ? 0 : (int64_t)PATIENCE_MS * 1000000);
    while (n > 0) {
        int64_t left_ms = (end - sur_clock_ns()) / 1000000;
        struct pollfd p = {.fd = err_fd, .events = POLLOUT};
        int ready = poll(&p, 1, left_ms > 0 ? (int)left_ms : 0);
        ssize_t wrote = ready > 0 ? write(err_fd, text, n) : -1;
        if (wrote > 0) {
            text += wrote;
            n -= (size_t)wrote;
        } else if (ready != 0 && errno != EINTR && errno != EAGAIN) {
            return true;
        } else if (left_ms <= 0 && (ready == 0 || errno == EAGAIN)) {
            atomic_store(&stuck, true);
            return false;
        }
    }
    atomic_store(&stuck, false);
    return true;
}

/* ---- the pipe ---- */

/* Reads available bytes into text, and keeps them for os_stderr_show_last. The caller holds `reading`. */
static ssize_t read_some(char *text, size_t size)
{
    ssize_t n = read(diverted.pipe, text, size);
    if (n <= 0) return n;
    size_t more = (size_t)n, drop = diverted.n_last + more > LAST_BYTES ? diverted.n_last + more - LAST_BYTES : 0;
    memmove(diverted.last, diverted.last + drop, diverted.n_last - drop);
    memcpy(diverted.last + diverted.n_last - drop, text, more);
    diverted.n_last += more - drop;
    return n;
}

static void *read_lines(void *arg)
{
    char text[LINE_BYTES];
    size_t n = 0;
    for (;;) {
        struct pollfd p = {.fd = diverted.pipe, .events = POLLIN};
        if (poll(&p, 1, -1) < 0) continue;
        while (atomic_flag_test_and_set(&diverted.reading)) sur_clock_sleep_until(sur_clock_ns() + 1000000);
        ssize_t got = read_some(text + n, sizeof text - 1 - n);
        atomic_flag_clear(&diverted.reading);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got <= 0) break;
        n += (size_t)got;
        text[n] = 0;
        char *at = text, *end;
        while ((end = strchr(at, '\n')) || (at == text && n == sizeof text - 1)) {
            if (end) *end = 0;
            if (*at) diverted.line(at);
            at = end ? end + 1 : text + n;
        }
        n = strlen(at);
        memmove(text, at, n + 1);
    }
    if (n > 0) diverted.line(text);
    return arg;
}

/* Returns a descriptor of the same pipe or terminal that never blocks, independent of the flags of the inherited one,
 * which other processes share. For other files, a copy of the inherited descriptor. */
static int keep_stderr(void)
{
    struct stat is;
    int fd = -1;
    if (fstat(STDERR_FILENO, &is) == 0 && (S_ISFIFO(is.st_mode) || S_ISCHR(is.st_mode)))
        fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd >= 0 ? fd : fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
}

void os_stderr_divert(void (*line)(const char *text))
{
    int fds[2], out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3), err = keep_stderr();
    if (out < 0 || err < 0 || pipe2(fds, O_CLOEXEC) != 0) goto fail;
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    diverted.pipe = fds[0];
    diverted.line = line;
    out_fd = out;
    err_fd = err;
    diverted.on = sur_thread_start(&diverted.thread, read_lines, NULL) == 0;
    if (diverted.on) {
        if (__sanitizer_set_report_fd) __sanitizer_set_report_fd((void *)(intptr_t)err);
        setvbuf(stdout, NULL, _IOLBF, 0);
        atexit(os_stderr_show_last); /* a library that calls exit has written why */
        dup2(fds[1], STDOUT_FILENO);
        dup2(fds[1], STDERR_FILENO);
        close(fds[1]);
        return;
    }
    close(fds[0]);
    close(fds[1]);
    out_fd = STDOUT_FILENO;
    err_fd = STDERR_FILENO;
fail:
    if (out >= 0) close(out);
    if (err >= 0) close(err);
}

void os_stderr_restore(void)
{
    struct timespec soon;
    if (!diverted.on) return;
    fflush(stdout);
    int nowhere = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (nowhere < 0 || dup2(nowhere, STDOUT_FILENO) < 0) close(STDOUT_FILENO);
    if (nowhere >= 0) close(nowhere);
    dup2(err_fd, STDERR_FILENO);
    /* a child process of a library may keep the other end open for ever */
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_sec++;
    diverted.on = false;
    if (pthread_timedjoin_np(diverted.thread, NULL, &soon) != 0)
        pthread_detach(diverted.thread);
    else
        close(diverted.pipe);
}

void os_stderr_show_last(void)
{
    struct timespec look = {.tv_nsec = 2000000};
    char text[LINE_BYTES];
    if (!diverted.on) return;
    for (int i = 0; i < 100 && atomic_flag_test_and_set(&diverted.reading); i++) nanosleep(&look, NULL);
    while (read_some(text, sizeof text) > 0) continue; /* the thread that reads may have crashed */
    os_stderr_write(diverted.last, diverted.n_last);
}
