/* How one thread wakes another. */
#ifndef OS_WAKE_H
#define OS_WAKE_H

#include <stdbool.h>
#include <stdint.h>

/* A descriptor, or -1. Closed by close(2). */
int os_wake_open(void);
/* Any thread, and signal handlers: the thread that waits, or the next one to wait, wakes. */
void os_wake_post(int fd);
/* Sleeps until a thread or handler posts to one of the two (other may be -1: none), or for timeout_ns (negative: for
 * ever); a signal ends it early, too. What was posted is taken. */
void os_wake_wait(int fd, int other, int64_t timeout_ns);

#endif
