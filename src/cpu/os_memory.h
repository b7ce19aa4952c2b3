/* Large blocks of memory from the system. Thread-safety: any thread. */
#ifndef SUR_CPU_OS_MEMORY_H
#define SUR_CPU_OS_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Returns the bytes that can be allocated without evicting other programs: free and reclaimable memory, and free swap.
 * If the system does not report them, all memory of the machine. */
uint64_t sur_memory_available(void);
/* Returns n_bytes of zeros, page-aligned, in huge pages if the system has them; NULL: no memory. The caller releases
 * them. */
void *sur_memory_get(size_t n_bytes);
void sur_memory_release(void *memory, size_t n_bytes); /* NULL is allowed */
/* Tells the system that n_bytes at data, in a mapped file, are not needed soon. They no longer count as memory of this
 * process; a later access reads them from the file again. */
void sur_memory_forget(const void *data, size_t n_bytes);

#endif
