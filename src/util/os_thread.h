/* Threads that receive no signals meant for the process.
 *
 * Thread-safety: any thread. */
#ifndef SUR_UTIL_OS_THREAD_H
#define SUR_UTIL_OS_THREAD_H

#include <pthread.h>

/* Like pthread_create, with all signals blocked in the new thread except those that its own faults raise (SIGBUS,
 * SIGSEGV and the like): if these were blocked, a fault would end the process without running a handler. Returns 0 or
 * an errno. */
int sur_thread_start(pthread_t *thread, void *(*run)(void *arg), void *arg);

#endif
