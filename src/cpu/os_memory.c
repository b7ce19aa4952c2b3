#include "cpu/os_memory.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

uint64_t sur_memory_available(void)
{
    unsigned long long kib, available = 0, swap = 0;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");
    while (f && fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) available = kib;
        if (sscanf(line, "SwapFree: %llu kB", &kib) == 1) swap = kib;
    }
    if (f) fclose(f);
    if (available) return (uint64_t)(available + swap) * 1024;
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

void *sur_memory_get(size_t n_bytes)
{
    void *memory = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return NULL;
    madvise(memory, n_bytes, MADV_HUGEPAGE); /* where it is refused, pages are small */
    return memory;
}

void sur_memory_release(void *memory, size_t n_bytes)
{
    if (memory) munmap(memory, n_bytes);
}

void sur_memory_forget(const void *data, size_t n_bytes)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)data + page - 1) / page * page,
                    to = ((uintptr_t)data + n_bytes) / page * page;
    if (from < to) madvise((void *)from, to - from, MADV_DONTNEED);
}
