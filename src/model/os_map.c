#include "model/os_map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "surtitle.h"
#include "util/error.h"
#include "util/utf8.h"

/* The maps that sur_model_fault knows: a fixed list of atomics, because a signal handler may take no lock. */
enum { N_SLOTS = 128, PATH_BYTES = 300, LINE_BYTES = 360 };
static struct {
    atomic_bool taken;
    _Atomic uintptr_t begin; /* 0: unused. The other fields are written before it and then stay. */
    uintptr_t end;
    int fd;                 /* of the file, to ask for its length */
    char *cut, *unreadable; /* the two lines that sur_model_fault returns */
} slots[N_SLOTS];

/* If an address lies behind the last page that the file still has, the file was truncated; the kernel gives no other
 * sign. fstat is async-signal-safe. */
const char *sur_model_fault(const void *address)
{
    const uintptr_t a = (uintptr_t)address;
    for (int i = 0; i < N_SLOTS; i++) {
        const uintptr_t begin = atomic_load_explicit(&slots[i].begin, memory_order_acquire);
        if (begin == 0 || a < begin || a >= slots[i].end) continue;
        struct stat st;
        const int error = errno;
        const bool is_cut = fstat(slots[i].fd, &st) == 0 && (a & ~(uintptr_t)4095) - begin >= (uint64_t)st.st_size;
        errno = error;
        return is_cut ? slots[i].cut : slots[i].unreadable;
    }
    return NULL;
}

static char *line_of(const char *path, const char *what)
{
    char clean[PATH_BYTES], *line = malloc(LINE_BYTES);
    sur_utf8_clean(clean, sizeof clean, path, strlen(path));
    if (line) snprintf(line, LINE_BYTES, "%s: %s", clean, what);
    return line;
}

static void free_slot(int i)
{
    atomic_store_explicit(&slots[i].begin, (uintptr_t)0, memory_order_release);
    if (slots[i].fd >= 0) close(slots[i].fd);
    free(slots[i].cut);
    free(slots[i].unreadable);
    atomic_store(&slots[i].taken, false);
}

/* The slot owns fd from then on. */
static int take_slot(const struct sur_map *map, int fd, const char *path, const char *name)
{
    for (int i = 0; i < N_SLOTS; i++) {
        bool expected = false;
        if (!atomic_compare_exchange_strong(&slots[i].taken, &expected, true)) continue;
        slots[i].end = (uintptr_t)map->data + map->n_bytes;
        slots[i].fd = -1;
        slots[i].cut = line_of(path, "the file was cut while it was in use");
        slots[i].unreadable = line_of(path, "the file cannot be read: input/output error");
        if (!slots[i].cut || !slots[i].unreadable) {
            free_slot(i);
            return sur_fail(SUR_ERR_MEMORY, "%s: out of memory", name);
        }
        slots[i].fd = fd;
        atomic_store_explicit(&slots[i].begin, (uintptr_t)map->data, memory_order_release);
        return i;
    }
    return sur_fail(SUR_ERR_MEMORY, "%s: more than %d files are mapped", name, N_SLOTS);
}

/* Recognises what a download may have stored instead of the file. */
static int check_start(int fd, const char *name)
{
    static const char lfs[] = "version https://git-lfs";
    char start[64] = "";
    ssize_t n = pread(fd, start, sizeof start - 1, 0);
    if (n < 0) return sur_fail(SUR_ERR_MODEL, "%s: %s", name, strerror(errno));
    if (strncmp(start, lfs, sizeof lfs - 1) == 0)
        return sur_fail(SUR_ERR_MODEL, "%s: a git-lfs pointer, not the file itself: get that by git lfs pull", name);
    const char *text = start + strspn(start, " \t\r\n");
    if (strncasecmp(text, "<!doctype", 9) == 0 || strncasecmp(text, "<html", 5) == 0 || strncmp(text, "<?xml", 5) == 0)
        return sur_fail(SUR_ERR_MODEL, "%s: a web page, not a file of a model: what was downloaded is an answer", name);
    return SUR_OK;
}

static int map_descriptor(struct sur_map *map, int fd, const char *name, uint64_t max_bytes)
{
    struct stat st;
    if (fstat(fd, &st) < 0) return sur_fail(SUR_ERR_MODEL, "%s: %s", name, strerror(errno));
    if (!S_ISREG(st.st_mode)) return sur_fail(SUR_ERR_MODEL, "%s: not a regular file", name);
    if (st.st_size <= 0) return sur_fail(SUR_ERR_MODEL, "%s: the file is empty", name);
    uint64_t n_bytes = (uint64_t)st.st_size;
    if (n_bytes > max_bytes || n_bytes > SIZE_MAX)
        return sur_fail(SUR_ERR_MODEL, "%s: %" PRIu64 " bytes; at most %" PRIu64 " are read", name, n_bytes, max_bytes);
    int r = check_start(fd, name);
    if (r) return r;
    void *data = mmap(NULL, (size_t)n_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return sur_fail(errno == ENOMEM ? SUR_ERR_MEMORY : SUR_ERR_MODEL, "%s: cannot map: %s", name, strerror(errno));
    *map = (struct sur_map){.data = data, .n_bytes = n_bytes, .slot = -1};
    return SUR_OK;
}

static void unmap(struct sur_map *map)
{
    union { /* munmap takes a pointer that is not const */
        const void *in;
        void *out;
    } data = {.in = map->data};
    munmap(data.out, (size_t)map->n_bytes);
    memset(map, 0, sizeof *map);
}

int sur_map_open(struct sur_map *map, const char *path, uint64_t max_bytes)
{
    memset(map, 0, sizeof *map);
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    /* O_NONBLOCK: a FIFO of that name must be refused, not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return sur_fail(SUR_ERR_MODEL, "%s: %s", name, strerror(errno));
    int r = map_descriptor(map, fd, name, max_bytes);
    if (!r) {
        map->slot = take_slot(map, fd, path, name);
        if (map->slot >= 0) return SUR_OK;
        r = map->slot;
        unmap(map);
    }
    close(fd);
    return r;
}

void sur_map_close(struct sur_map *map)
{
    if (!map->data) return;
    free_slot(map->slot);
    unmap(map);
}
