#include "util/os_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/clock.h"

enum { MAX_LINKS = 40 /* as in the kernel */ };

static int moved[3] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};

void os_file_move(int descriptor, int to)
{
    moved[descriptor] = to;
}

int os_file_moved(int descriptor)
{
    return descriptor >= 0 && descriptor <= 2 ? moved[descriptor] : descriptor;
}

static void set_existing(struct os_file *f, const struct stat *is)
{
    f->kind = OS_FILE_EXISTS;
    f->mode = is->st_mode;
    f->device = is->st_dev;
    f->inode = is->st_ino;
}

void os_file_of_descriptor(struct os_file *f, int descriptor)
{
    struct stat is;
    *f = (struct os_file){.descriptor = descriptor};
    if (fstat(os_file_moved(descriptor), &is) == 0) set_existing(f, &is);
}

/* Returns the descriptor that folder/name stands for, or -1. folder: absolute, without links. */
static int descriptor_of(const char *folder, const char *name)
{
    static const char *const links[] = {"/proc/self/fd", "/proc/thread-self/fd"};
    char ours[PATH_MAX], *end;
    long number = strtol(name, &end, 10);
    if (*end || end == name || number < 0 || number > INT_MAX) return -1;
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (realpath(links[i], ours) && strcmp(ours, folder) == 0) return (int)number;
    return -1;
}

/* The rule of fs.protected_symlinks, which the kernel applies to open(2) but not to readlink(2) and rename(2). */
static bool is_foreign(const char *folder, const char *link)
{
    struct stat of_folder, of_link;
    if (stat(folder, &of_folder) != 0 || lstat(link, &of_link) != 0) return true;
    const mode_t shared = S_ISVTX | S_IWOTH;
    return (of_folder.st_mode & shared) == shared && of_link.st_uid != geteuid() && of_link.st_uid != of_folder.st_uid;
}

/* Makes f->path absolute and its folder free of links; *name is the part after the folder. */
static bool resolve_folder(struct os_file *f, char folder[PATH_MAX], const char **name)
{
    char *slash = strrchr(f->path, '/');
    char *last = slash ? slash + 1 : f->path;
    if (!*last || strcmp(last, ".") == 0 || strcmp(last, "..") == 0) { /* the path is a folder */
        errno = EISDIR;
        return false;
    }
    char kept[NAME_MAX + 1];
    if (snprintf(kept, sizeof kept, "%s", last) >= (int)sizeof kept) {
        errno = ENAMETOOLONG;
        return false;
    }
    *last = 0;
    if (!realpath(slash ? f->path : ".", folder)) return false;
    if (snprintf(f->path, sizeof f->path, "%s/%s", strcmp(folder, "/") == 0 ? "" : folder, kept) >=
        (int)sizeof f->path) {
        errno = ENAMETOOLONG;
        return false;
    }
    *name = strrchr(f->path, '/') + 1;
    return true;
}

/* While the last part of f->path is a link, follows it. */
static bool follow(struct os_file *f, char folder[PATH_MAX])
{
    char target[PATH_MAX];
    const char *name;
    for (int links = 0; links <= MAX_LINKS; links++) {
        if (!resolve_folder(f, folder, &name)) return false;
        f->descriptor = descriptor_of(folder, name);
        if (f->descriptor >= 0) return true;
        ssize_t n = readlink(f->path, target, sizeof target - 1);
        if (n < 0) return errno == EINVAL || errno == ENOENT;
        target[n] = 0;
        f->foreign_link = f->foreign_link || is_foreign(folder, f->path);
        if (snprintf(f->path, sizeof f->path, "%s%s%s", target[0] == '/' ? "" : folder, target[0] == '/' ? "" : "/",
                     target) >= (int)sizeof f->path)
            break;
    }
    errno = ELOOP;
    return false;
}

bool os_file_find(struct os_file *f, const char *path)
{
    char folder[PATH_MAX];
    struct stat is;
    *f = (struct os_file){.descriptor = -1};
    if (snprintf(f->path, sizeof f->path, "%s", path) >= (int)sizeof f->path) {
        errno = ENAMETOOLONG;
        return false;
    }
    bool followed = follow(f, folder);
    int error = errno;
    if (followed && f->descriptor >= 0) {
        int descriptor = f->descriptor;
        os_file_of_descriptor(f, descriptor);
    } else if (stat(path, &is) == 0) { /* also finds files behind links in /proc that have no path */
        set_existing(f, &is);
    } else if (followed && errno == ENOENT && stat(folder, &is) == 0) {
        set_existing(f, &is);
        f->kind = OS_FILE_NEW;
    } else if (followed) {
        return false;
    } else {
        errno = error;
    }
    return f->kind != OS_FILE_UNKNOWN;
}

bool os_file_same(const struct os_file *a, const struct os_file *b)
{
    if (a->kind == OS_FILE_UNKNOWN || a->kind != b->kind || a->device != b->device || a->inode != b->inode)
        return false;
    return a->kind == OS_FILE_EXISTS || strcmp(strrchr(a->path, '/'), strrchr(b->path, '/')) == 0;
}

/* The name does not contain that of the file, which may have the greatest length that is allowed. O_EXCL never follows
 * a link that another user put there. */
int os_file_create_temporary(const struct os_file *f, mode_t mode, char path[PATH_MAX])
{
    int folder = (int)(strrchr(f->path, '/') - f->path), fd = -1;
    for (int tries = 0; tries < 100; tries++) {
        uint32_t number = (uint32_t)sur_clock_ns() ^ (uint32_t)getpid() << 16;
        if (snprintf(path, PATH_MAX, "%.*s/.surtitle-%08x", folder, f->path, number) >= PATH_MAX) {
            errno = ENAMETOOLONG;
            return -1;
        }
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return fd;
}
