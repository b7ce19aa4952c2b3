/* Event descriptors, by which one thread wakes another. */
#ifndef OS_WAKE_H
#define OS_WAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Returns a descriptor, or -1. Close it by close(2). */
int os_wake_open(void);
/* Wakes the thread that waits, or the next one to wait. Any thread; async-signal-safe. */
void os_wake_post(int fd);
/* Sleeps until one of the two descriptors is posted to (other may be -1: none), a signal is handled, or timeout_ns have
 * passed (negative: no limit). Resets the descriptors that were posted to. */
void os_wake_wait(int fd, int other, int64_t timeout_ns);

/* A flag that says that a thread is about to wait, so that another thread posts only when that is needed.
 *
 * The thread that waits calls raise, looks once more for what it waits for, and waits only if raise returned true: the
 * flag was up already. The other thread provides that first, then calls lower, and posts if it returned true. Each has
 * a full fence between its write and its look, so at least one of the two sees what the other did. */
bool os_wake_raise(atomic_bool *flag);
bool os_wake_lower(atomic_bool *flag);

#endif
