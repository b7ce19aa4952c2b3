/* Preloaded into a program: makes one call fail, or many calls behave badly within the rules (glibc only).
 *
 * FAULT, a kind and a number:
 *   "alloc N", "map N", "thread N", "file N"  the N-th allocation, mmap, pthread_create or call that makes, renames or
 *                                             closes a file fails; 0: none
 *   "full N"    from the N-th write on, there is no space left
 *   "short N"   every read and write does at most N bytes
 *   "eintr N"   one in N reads, writes and polls is interrupted by a signal
 * FAULT_REPORT, a file that gets one line each: if N is 0, "KIND SITE" for every call of the first four kinds, in their
 * order; "live SITE" for each allocation that is left at the end, and "end ?"; or only "crash SITE". A site is a
 * module's name and the caller's place in it. Calls before main, and in programs that it starts, do not count. */
#undef _FILE_OFFSET_BITS /* with it open would be open64, and the other could not be defined */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *p);
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end);

enum kind { ALLOC, MAP, THREAD, FILES, FULL, SHORT, EINTR_, KINDS };
enum { MAX_CALLS = 1 << 20, MAX_LIVE = 1 << 18 };

static const char *const kind_names[KINDS] = {"alloc", "map", "thread", "file", "full", "short", "eintr"};

static struct {
    enum kind kind;
    long n;
    char report[512];
    struct stat error; /* standard error at the start */
    bool on;
    atomic_long counts[KINDS];
    atomic_long n_calls;
    struct {
        enum kind kind;
        void *site;
    } calls[MAX_CALLS];
} fault;

/* The live allocations: open addressing; a removed entry is TOMB. */
static struct {
    atomic_flag lock;
    struct {
        void *at, *site;
    } entries[MAX_LIVE];
} live = {.lock = ATOMIC_FLAG_INIT};
#define TOMB ((void *)1)

static void **find_live(void *at, bool add)
{
    size_t i = ((uintptr_t)at >> 4) * 0x9e3779b97f4a7c15u >> 46;
    for (;; i = (i + 1) % MAX_LIVE) {
        void *have = live.entries[i].at;
        if (have == at || (add && (!have || have == TOMB))) return &live.entries[i].at;
        if (!have) return NULL;
    }
}

static void note_live(void *at, void *site)
{
    if (!fault.on || !at) return;
    while (atomic_flag_test_and_set(&live.lock)) {}
    void **entry = find_live(at, true);
    entry[0] = at;
    entry[1] = site;
    atomic_flag_clear(&live.lock);
}

static void forget(void *at)
{
    if (!fault.on || !at) return;
    while (atomic_flag_test_and_set(&live.lock)) {}
    void **entry = find_live(at, false);
    if (entry) *entry = TOMB;
    atomic_flag_clear(&live.lock);
}

static bool fails(enum kind kind, void *site)
{
    if (!fault.on) return false;
    long n = atomic_fetch_add(&fault.counts[kind], 1) + 1, i = atomic_fetch_add(&fault.n_calls, 1);
    if (i < MAX_CALLS) {
        fault.calls[i].kind = kind;
        fault.calls[i].site = site;
    }
    return kind == fault.kind && n == fault.n;
}

/* ---- the report ---- */

struct place {
    uintptr_t at;
    char text[128];
};

static int find_place(struct dl_phdr_info *info, size_t size, void *user)
{
    struct place *p = user;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (info->dlpi_phdr[i].p_type != PT_LOAD || p->at < from || p->at - from >= info->dlpi_phdr[i].p_memsz)
            continue;
        const char *slash = strrchr(info->dlpi_name, '/');
        const char *name = slash ? slash + 1 : info->dlpi_name[0] ? info->dlpi_name : "surtitle";
        snprintf(p->text, sizeof p->text, "%s+0x%lx", name, (unsigned long)(p->at - info->dlpi_addr));
        return 1;
    }
    return 0;
}

static void print_site(int fd, const char *kind, void *site)
{
    char line[192];
    struct place p = {.at = (uintptr_t)site, .text = "?"};
    dl_iterate_phdr(find_place, &p);
    int n = snprintf(line, sizeof line, "%s %s\n", kind, p.text);
    syscall(SYS_write, fd, line, n);
}

__attribute__((destructor)) static void report(void)
{
    if (!fault.on) return;
    fault.on = false;
    int fd =
        fault.report[0] ? (int)syscall(SYS_openat, AT_FDCWD, fault.report, O_WRONLY | O_TRUNC | O_CREAT, 0666) : -1;
    if (fd < 0) return;
    long n = fault.n_calls < MAX_CALLS ? fault.n_calls : MAX_CALLS;
    for (long i = 0; fault.n == 0 && i < n; i++) print_site(fd, kind_names[fault.calls[i].kind], fault.calls[i].site);
    for (size_t i = 0; i < MAX_LIVE; i++)
        if (live.entries[i].at && live.entries[i].at != TOMB) print_site(fd, "live", live.entries[i].site);
    print_site(fd, "end", NULL);
    syscall(SYS_close, fd);
}

/* The site of a crash, which may be in a library that is not ours. */
static void on_crash(int signal, siginfo_t *info, void *context)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, fault.report, O_WRONLY | O_TRUNC | O_CREAT, 0666);
#ifdef __x86_64__
    print_site(fd, "crash", (void *)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP]);
#else
    print_site(fd, "crash", NULL);
#endif
    _exit(128 + signal);
}

static void begin_counting(void)
{
    const struct sigaction crash = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO};
    char name[16];
    const char *what = getenv("FAULT"), *path = getenv("FAULT_REPORT");
    if (!what || sscanf(what, "%15s %ld", name, &fault.n) != 2) abort();
    while (fault.kind < KINDS && strcmp(kind_names[fault.kind], name) != 0) fault.kind++;
    if (fault.kind == KINDS) abort();
    snprintf(fault.report, sizeof fault.report, "%s", path ? path : "");
    unsetenv("LD_PRELOAD");
    unsetenv("FAULT");
    unsetenv("FAULT_REPORT");
    sigaction(SIGSEGV, &crash, NULL);
    sigaction(SIGABRT, &crash, NULL);
    fstat(STDERR_FILENO, &fault.error);
    fault.on = true;
}

#pragma GCC visibility push(default) /* the project hides what it does not export */

/* glibc calls this to enter main, after the constructors. */
int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv, void (*init)(void), void (*fini)(void),
                      void (*rtld_fini)(void), void *stack_end)
{
    int (*real)(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
    *(void **)&real = dlsym(RTLD_NEXT, "__libc_start_main");
    begin_counting();
    return real(main, argc, argv, init, fini, rtld_fini, stack_end);
}

/* ---- memory ---- */

#define SITE __builtin_return_address(0)
#define ALLOCATE(call)                                                                                                 \
    do {                                                                                                               \
        if (fails(ALLOC, SITE)) {                                                                                      \
            errno = ENOMEM;                                                                                            \
            return NULL;                                                                                               \
        }                                                                                                              \
        void *at = call;                                                                                               \
        note_live(at, SITE);                                                                                           \
        return at;                                                                                                     \
    } while (0)

void *malloc(size_t size)
{
    ALLOCATE(__libc_malloc(size));
}

void *calloc(size_t n, size_t size)
{
    ALLOCATE(__libc_calloc(n, size));
}

void *memalign(size_t alignment, size_t size)
{
    ALLOCATE(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
    ALLOCATE(__libc_memalign(alignment, size));
}

int posix_memalign(void **p, size_t alignment, size_t size)
{
    if (fails(ALLOC, SITE)) return ENOMEM;
    *p = __libc_memalign(alignment, size);
    note_live(*p, SITE);
    return *p ? 0 : ENOMEM;
}

void *realloc(void *p, size_t size)
{
    if (fails(ALLOC, SITE)) {
        errno = ENOMEM;
        return NULL;
    }
    forget(p);
    void *at = __libc_realloc(p, size);
    note_live(at ? at : p, SITE);
    return at;
}

void free(void *p)
{
    forget(p);
    __libc_free(p);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    if (fails(MAP, SITE)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
}

/* Called by a build with 64-bit offsets. */
void *mmap64(void *at, size_t size, int protection, int flags, int fd, off_t offset) __attribute__((alias("mmap")));
int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *user)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return fails(THREAD, SITE) ? EAGAIN : real(thread, attributes, run, user);
}

/* ---- files ---- */

static int file_fails(void *site)
{
    if (!fails(FILES, site)) return 0;
    errno = ENOSPC;
    return -1;
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return file_fails(SITE) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int fchmod(int fd, mode_t mode)
{
    return file_fails(SITE) ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

int rename(const char *from, const char *to)
{
    return file_fails(SITE) ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int close(int fd)
{
    int status = (int)syscall(SYS_close, fd);
    return file_fails(SITE) ? -1 : status;
}

/* ---- reads and writes ---- */

/* Pseudo-random, because an interrupt at every second call would always hit the same call of a loop. Calls that never
 * wait are never interrupted. */
static bool interrupted(int fd)
{
    if (!fault.on || fault.kind != EINTR_ || (fd >= 0 && fcntl(fd, F_GETFL) & O_NONBLOCK)) return false;
    uint32_t n = (uint32_t)atomic_fetch_add(&fault.counts[EINTR_], 1) * 2654435761u;
    if ((n >> 8) % (uint32_t)fault.n) return false;
    errno = EINTR;
    return true;
}

static size_t shortened(size_t n) /* an eventfd takes its 8 bytes at once */
{
    return fault.on && fault.kind == SHORT && n != 8 && n > (size_t)fault.n ? (size_t)fault.n : n;
}

ssize_t read(int fd, void *bytes, size_t n)
{
    return interrupted(fd) ? -1 : syscall(SYS_read, fd, bytes, shortened(n));
}

/* Standard error, by any descriptor: it is not on the full disk. */
static bool is_stderr(int fd)
{
    struct stat is;
    return fstat(fd, &is) == 0 && is.st_dev == fault.error.st_dev && is.st_ino == fault.error.st_ino;
}

ssize_t write(int fd, const void *bytes, size_t n)
{
    if (fault.on && fault.kind == FULL && !is_stderr(fd) &&
        atomic_fetch_add(&fault.counts[FULL], 1) + 1 >= fault.n) {
        errno = ENOSPC;
        return -1;
    }
    return interrupted(fd) ? -1 : syscall(SYS_write, fd, bytes, shortened(n));
}

int poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
    struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    /* aarch64 has only ppoll; the signal mask has 8 bytes for the kernel */
    return interrupted(-1) ? -1 : (int)syscall(SYS_ppoll, fds, n, timeout_ms < 0 ? NULL : &timeout, NULL, 8);
}
