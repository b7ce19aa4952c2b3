/* Large pieces of memory from the system. */
#ifndef SUR_CPU_OS_MEMORY_H
#define SUR_CPU_OS_MEMORY_H

#include <stddef.h>
#include <stdint.h>

/* Bytes that a program may still take without pushing others out: free and reclaimable memory, and free swap. Where the
 * system does not say, all memory there is. */
uint64_t sur_memory_available(void);
/* n_bytes of zeros, page-aligned, in huge pages where the system has them; NULL: no memory. The caller's to release. */
void *sur_memory_get(size_t n_bytes);
void sur_memory_release(void *memory, size_t n_bytes); /* takes NULL */
/* The n_bytes at data, within a mapped file, will not be read soon: they no longer count as this process's memory, and
 * are read again from the file if they are. */
void sur_memory_forget(const void *data, size_t n_bytes);

#endif
