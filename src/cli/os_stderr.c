#include "cli/os_stderr.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/os_signal.h"

enum { LINE_BYTES = 512 };

static atomic_int terminal = STDERR_FILENO;
static struct {
    bool on;
    int pipe;
    pthread_t thread;
    void (*line)(const char *text);
} diverted;

static void *read_lines(void *arg)
{
    char text[LINE_BYTES];
    size_t n = 0;
    for (;;) {
        ssize_t got = read(diverted.pipe, text + n, sizeof text - 1 - n);
        if (got < 0 && errno == EINTR) continue;
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
    close(diverted.pipe);
    return arg;
}

void os_stderr_divert(void (*line)(const char *text))
{
    int fds[2], saved;
    sigset_t old;
    if (diverted.on || pipe2(fds, O_CLOEXEC) != 0) return;
    saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    diverted.pipe = fds[0];
    diverted.line = line;
    os_signal_block(&old);
    diverted.on = saved >= 0 && pthread_create(&diverted.thread, NULL, read_lines, NULL) == 0;
    os_signal_restore(&old);
    if (diverted.on) {
        atomic_store(&terminal, saved);
        dup2(fds[1], STDERR_FILENO);
    } else {
        close(fds[0]);
        if (saved >= 0) close(saved);
    }
    close(fds[1]);
}

void os_stderr_restore(void)
{
    struct timespec soon;
    int saved = atomic_load(&terminal);
    if (!diverted.on) return;
    dup2(saved, STDERR_FILENO);
    atomic_store(&terminal, STDERR_FILENO);
    close(saved);
    /* a child that a library started may hold the other end for ever */
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_sec++;
    if (pthread_timedjoin_np(diverted.thread, NULL, &soon) != 0) pthread_detach(diverted.thread);
    diverted.on = false;
}

int os_stderr_fd(void)
{
    return atomic_load(&terminal);
}
