/* Finds which file a path leads to, so that two names of one file are recognised before either is written, and creates
 * the temporary file that is to replace it.
 *
 * Thread-safety: os_file_move before other threads use the functions; otherwise any thread.
 * Errors: errno. */
#ifndef OS_FILE_H
#define OS_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

enum os_file_kind {
    OS_FILE_UNKNOWN, /* open(2) would fail, or the file cannot be found; see errno */
    OS_FILE_EXISTS,
    OS_FILE_NEW, /* open(2) with O_CREAT would create it */
};

struct os_file {
    enum os_file_kind kind;
    mode_t mode;         /* EXISTS: as of stat(2) */
    dev_t device;        /* EXISTS: the file's; NEW: its folder's */
    ino_t inode;         /* as device */
    int descriptor;      /* the path leads to this descriptor of the process (/dev/stdout, /dev/fd/N); otherwise -1 */
    bool foreign_link;   /* the path ends with another user's link, in a world-writable sticky folder */
    char path[PATH_MAX]; /* absolute, without links; a descriptor's path is not resolved */
};

/* Follows links as open(2) does, including those that lead to nothing. Returns false with errno if the kind is
 * OS_FILE_UNKNOWN. */
bool os_file_find(struct os_file *file, const char *path);
void os_file_of_descriptor(struct os_file *file, int descriptor);
/* Returns whether both are the same file: by device and inode, or by folder and name if neither exists yet. */
bool os_file_same(const struct os_file *a, const struct os_file *b);
/* Notes that standard output or standard error (1 or 2) now has another number, `to`. The functions above then take
 * `to` for that descriptor. */
void os_file_move(int descriptor, int to);
/* Creates a file in the same folder, open for writing, which rename(2) can put in the place of `file` (EXISTS or NEW,
 * and not a descriptor). Writes its path to `path`. The umask applies to mode. Returns the descriptor, or -1 with
 * errno. */
int os_file_create_temporary(const struct os_file *file, mode_t mode, char path[PATH_MAX]);
/* Returns the number that a descriptor has now: its own, unless it was moved. */
int os_file_moved(int descriptor);

#endif
