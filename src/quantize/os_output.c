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

static char target[PATH_MAX], temporary[PATH_MAX + 8];
static volatile sig_atomic_t exists; /* temporary */

static const int ending[] = {SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGXCPU};
enum { N_ENDING = sizeof ending / sizeof ending[0] };

static void on_ending(int number)
{
    if (exists) unlink(temporary);
    signal(number, SIG_DFL);
    raise(number); /* blocked until the handler returns, and ends the process then */
}

static int fault_status;

static void on_bus(int number, siginfo_t *info, void *context)
{
    static atomic_flag entered = ATOMIC_FLAG_INIT;
    while (atomic_flag_test_and_set(&entered)) pause(); /* several threads meet the same hole */
    const char *line = info->si_code == BUS_ADRERR ? sur_model_fault(info->si_addr) : NULL;
    if (!line) {
        on_ending(number);
        return; /* the access is repeated, and ends the process */
    }
    char text[512] = "surtitle-quantize: "; /* snprintf is not async-signal-safe */
    strncat(text, line, sizeof text - strlen(text) - 2);
    strcat(text, "\n");
    if (exists) unlink(temporary);
    if (write(STDERR_FILENO, text, strlen(text)) < 0) _exit(fault_status);
    _exit(fault_status);
}

void os_catch_faults(int status)
{
    struct sigaction bus = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigemptyset(&bus.sa_mask);
    fault_status = status;
    sigaction(SIGBUS, &bus, NULL);
}

bool os_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* What stands at path and may not be replaced: anything but a regular file, and a link that leads to nothing. Of other
 * links the target is replaced, not the link. */
static bool find_target(const char *path)
{
    struct stat st;
    if (stat(path, &st) == 0) {
        if (!S_ISREG(st.st_mode)) {
            errno = S_ISDIR(st.st_mode) ? EISDIR : EEXIST;
            return false;
        }
        return realpath(path, target) != NULL;
    }
    if (errno != ENOENT) return false;
    if (lstat(path, &st) == 0) {
        errno = ENOENT;
        return false;
    }
    if (strlen(path) < sizeof target) {
        memcpy(target, path, strlen(path) + 1);
        return true;
    }
    errno = ENAMETOOLONG;
    return false;
}

int os_output_create(const char *path, uint64_t n_bytes)
{
    if (!find_target(path)) return -1;
    snprintf(temporary, sizeof temporary, "%s.XXXXXX", target);
    signal(SIGXFSZ, SIG_IGN); /* a write then fails with EFBIG */
    mode_t mask = umask(0);
    umask(mask);
    sigset_t held, before; /* a signal between the file's creation and the note of it would leave the file behind */
    sigemptyset(&held);
    for (int i = 0; i < N_ENDING; i++) {
        sigaddset(&held, ending[i]);
        if (signal(ending[i], on_ending) == SIG_IGN) signal(ending[i], SIG_IGN);
    }
    sigprocmask(SIG_BLOCK, &held, &before);
    int fd = mkostemp(temporary, O_CLOEXEC);
    int error = errno;
    exists = fd >= 0;
    sigprocmask(SIG_SETMASK, &before, NULL);
    errno = error;
    if (fd < 0) return -1;
    /* Room for all of it now. Where the file system cannot say, writing will. */
    bool ok = fchmod(fd, 0666 & ~mask) == 0 &&
              (fallocate(fd, 0, 0, (off_t)n_bytes) == 0 ||
               ((errno == EOPNOTSUPP || errno == ENOSYS) && ftruncate(fd, (off_t)n_bytes) == 0));
    if (ok) return fd;
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

/* So that the name, too, is there after the power fails. Not every file system can. */
static void flush_folder(void)
{
    char folder[PATH_MAX];
    char *slash;
    memcpy(folder, target, sizeof folder);
    if (!(slash = strrchr(folder, '/')))
        memcpy(folder, ".", 2);
    else
        slash[slash == folder] = 0;
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
    if (ok && keep && rename(temporary, target) < 0) {
        ok = false;
        error = errno;
    }
    if (!ok || !keep) unlink(temporary);
    exists = 0;
    if (ok && keep) flush_folder();
    errno = error;
    return ok;
}
