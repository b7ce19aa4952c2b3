#include "cpu/os_memory.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

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
