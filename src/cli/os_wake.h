/* How one thread wakes another. */
#ifndef OS_WAKE_H
#define OS_WAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* A descriptor, or -1. Closed by close(2). */
int os_wake_open(void);
/* Any thread, and signal handlers: the thread that waits, or the next one to wait, wakes. */
void os_wake_post(int fd);
/* Sleeps until a thread or handler posts to one of the two (other may be -1: none), or for timeout_ns (negative: for
 * ever); a signal ends it early, too. What was posted is taken. */
void os_wake_wait(int fd, int other, int64_t timeout_ns);

/* A flag that says that a thread is about to wait, so that another thread posts only when that is needed.
 *
 * The thread that waits calls raise, looks once more for what it waits for, and waits only if raise returned true: the
 * flag was up already. The other thread provides that first, then calls lower, and posts if it returned true. Each has
 * a full fence between its write and its look, so at least one of the two sees what the other did. */
bool os_wake_raise(atomic_bool *flag);
bool os_wake_lower(atomic_bool *flag);

#endif
