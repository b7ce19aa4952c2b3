/* Which file a path leads to, so that two names of one file are recognised before either is written.
 *
 * Main thread. Nothing is created or opened. */
#ifndef OS_FILE_H
#define OS_FILE_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

enum os_file_kind {
    OS_FILE_UNKNOWN, /* open(2) would fail, or nothing can be said; errno says why */
    OS_FILE_EXISTS,
    OS_FILE_NEW, /* open(2) with O_CREAT would make it */
};

struct os_file {
    enum os_file_kind kind;
    mode_t mode;         /* EXISTS: as of stat(2) */
    dev_t device;        /* EXISTS: the file's; NEW: its folder's */
    ino_t inode;         /* likewise */
    int descriptor;      /* the path leads to this descriptor of the process (/dev/stdout, /dev/fd/N); else -1 */
    bool foreign_link;   /* a link that ends the path is another user's, in a sticky folder that all may write to */
    char path[PATH_MAX]; /* absolute, without links; a descriptor's is not resolved */
};

/* Follows links as open(2) does, dangling ones, too. false: the kind is OS_FILE_UNKNOWN. */
bool os_file_find(struct os_file *file, const char *path);
void os_file_of_descriptor(struct os_file *file, int descriptor);
/* Whether the two are one file: by device and inode, or where neither exists yet by folder and name. */
bool os_file_same(const struct os_file *a, const struct os_file *b);
/* Standard output or standard error (1 or 2) has this number now: the number that counts as that descriptor above. */
void os_file_move(int descriptor, int to);
int os_file_moved(int descriptor); /* its number now; other descriptors are themselves */

#endif
