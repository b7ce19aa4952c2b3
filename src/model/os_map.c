#include "model/os_map.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/error.h"

/* The maps that the signal handler knows: a fixed list of atomics, because a handler may take no lock. */
enum { N_SLOTS = 128 };
static struct {
    atomic_bool taken;
    _Atomic uintptr_t begin, end; /* begin 0: nothing here */
} slots[N_SLOTS];

static struct sigaction previous;
static pthread_once_t handler_once = PTHREAD_ONCE_INIT;

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    static const char line[] = "surtitle: the checkpoint file was cut while in use\n";
    uintptr_t address = (uintptr_t)info->si_addr;
    bool others = true;
    if (previous.sa_flags & SA_SIGINFO)
        previous.sa_sigaction(number, info, context);
    else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN)
        previous.sa_handler(number);
    else
        others = false;
    for (int i = 0; i < N_SLOTS; i++) {
        uintptr_t begin = atomic_load_explicit(&slots[i].begin, memory_order_acquire);
        if (begin == 0 || address < begin || address >= atomic_load_explicit(&slots[i].end, memory_order_relaxed))
            continue;
        ssize_t written = write(STDERR_FILENO, line, sizeof line - 1);
        (void)written; /* nothing could be done about it */
        _exit(1);
    }
    if (!others) signal(number, SIG_DFL); /* the access is repeated on return, and ends the process as it would have */
}

static void install_handler(void)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, NULL, &previous); /* first, so that the handler never sees it empty */
    sigaction(SIGBUS, &action, NULL);
}

static int take_slot(const void *data, uint64_t n_bytes)
{
    for (int i = 0; i < N_SLOTS; i++) {
        bool expected = false;
        if (!atomic_compare_exchange_strong(&slots[i].taken, &expected, true)) continue;
        atomic_store_explicit(&slots[i].end, (uintptr_t)data + n_bytes, memory_order_relaxed);
        atomic_store_explicit(&slots[i].begin, (uintptr_t)data, memory_order_release);
        return i;
    }
    return -1;
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
    void *data = mmap(NULL, (size_t)n_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return sur_fail(errno == ENOMEM ? SUR_ERR_MEMORY : SUR_ERR_MODEL, "%s: cannot map: %s", name, strerror(errno));
    int slot = take_slot(data, n_bytes);
    if (slot < 0) {
        munmap(data, (size_t)n_bytes);
        return sur_fail(SUR_ERR_MEMORY, "%s: more than %d files are mapped", name, N_SLOTS);
    }
    *map = (struct sur_map){.data = data, .n_bytes = n_bytes, .slot = slot};
    return SUR_OK;
}

int sur_map_open(struct sur_map *map, const char *path, uint64_t max_bytes)
{
    memset(map, 0, sizeof *map);
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    /* O_NONBLOCK: a FIFO of that name must be refused, not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) return sur_fail(SUR_ERR_MODEL, "%s: %s", name, strerror(errno));
    pthread_once(&handler_once, install_handler);
    int rc = map_descriptor(map, fd, name, max_bytes);
    close(fd);
    return rc;
}

void sur_map_close(struct sur_map *map)
{
    if (!map->data) return;
    atomic_store_explicit(&slots[map->slot].begin, (uintptr_t)0, memory_order_release);
    union { /* munmap takes what mmap gave, which was not const */
        const void *in;
        void *out;
    } data = {.in = map->data};
    munmap(data.out, (size_t)map->n_bytes);
    atomic_store(&slots[map->slot].taken, false);
    memset(map, 0, sizeof *map);
}
