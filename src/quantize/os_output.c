#include "quantize/os_output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "surtitle.h"
#include "util/os_file.h"

static struct os_file target;
static char temporary[PATH_MAX];
static volatile sig_atomic_t exists; /* the temporary file */

static const int ending[] = {SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGXCPU};
enum { N_ENDING = sizeof ending / sizeof ending[0] };

static void on_ending(int number)
{
    if (exists) unlink(temporary);
    signal(number, SIG_DFL);
    raise(number); /* stays blocked until the handler returns, and then ends the process */
}

static int fault_status;

static void on_bus(int number, siginfo_t *info, void *context)
{
    static atomic_flag entered = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&entered)) pause(); /* several threads may fault */
    const char *line = info->si_code == BUS_ADRERR ? sur_model_fault(info->si_addr) : NULL;
    if (!line) {
        on_ending(number);
        return; /* the access is repeated, and its SIGBUS ends the process */
    }
    char text[512] = "surtitle-quantize: "; /* snprintf is not async-signal-safe */
    strncat(text, line, sizeof text - strlen(text) - 2);
    strcat(text, "\n");
    if (exists) unlink(temporary);
    if (write(STDERR_FILENO, text, strlen(text)) < 0) _exit(fault_status);
    _exit(fault_status);
}

void os_output_catch_faults(int status)
{
    struct sigaction bus = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigemptyset(&bus.sa_mask);
    fault_status = status;
    sigaction(SIGBUS, &bus, NULL);
}

/* Only a regular file is replaced, or a new one created. A link is followed; one that leads to nothing is refused. */
static bool find_target(const char *path)
{
    struct stat st;
    if (!os_file_find(&target, path)) return false;
    if (target.kind == OS_FILE_NEW && lstat(path, &st) == 0)
        errno = ENOENT;
    else if (target.kind == OS_FILE_EXISTS && !S_ISREG(target.mode))
        errno = S_ISDIR(target.mode) ? EISDIR : EEXIST;
    else
        return target.descriptor < 0 || realpath(path, target.path);
    return false;
}

int os_output_create(const char *path, uint64_t n_bytes)
{
    if (!find_target(path)) return -1;
    signal(SIGXFSZ, SIG_IGN); /* a write then fails with EFBIG */
    sigset_t held, before;    /* a signal between the file's creation and `exists` would leave the file behind */
    sigemptyset(&held);
    for (int i = 0; i < N_ENDING; i++) {
        sigaddset(&held, ending[i]);
        if (signal(ending[i], on_ending) == SIG_IGN) signal(ending[i], SIG_IGN);
    }
    sigprocmask(SIG_BLOCK, &held, &before);
    int fd = os_file_create_temporary(&target, 0666, temporary);
    int error = errno;
    exists = fd >= 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
    errno = error;
    if (fd < 0) return -1;
    /* A file system without fallocate reports a full disk only when the file is written. */
    if (fallocate(fd, 0, 0, (off_t)n_bytes) == 0) return fd;
    if ((errno == EOPNOTSUPP || errno == ENOSYS) && ftruncate(fd, (off_t)n_bytes) == 0) return fd;
    error = errno;
    os_output_close(fd, false);
    errno = error;
    return -1;
}

bool os_output_write(int fd, const void *bytes, size_t n, uint64_t offset)
{
    for (size_t at = 0; at < n;) {
        ssize_t written = pwrite(fd, (const char *)bytes + at, n - at, (off_t)(offset + at));
        if (written < 0 && errno != EINTR) return false;
        if (written > 0) at += (size_t)written;
    }
    return true;
}

/* Makes the rename durable: after a power failure the name is there, too. Not every file system supports it. */
static void flush_folder(void)
{
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s/", (int)(strrchr(target.path, '/') - target.path), target.path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

bool os_output_close(int fd, bool keep)
{
    bool ok = !keep || fsync(fd) == 0;
    int error = errno;
    if (close(fd) < 0 && ok) {
        ok = false;
        error = errno;
    }
    if (ok && keep && rename(temporary, target.path) < 0) {
        ok = false;
        error = errno;
    }
    if (!ok || !keep) unlink(temporary);
    exists = 0;
    if (ok && keep) flush_folder();
    errno = error;
    return ok;
}
