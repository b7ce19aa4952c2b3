/* Threads of the library: no signal that is meant for the program is delivered to them. */
#ifndef SUR_UTIL_OS_THREAD_H
#define SUR_UTIL_OS_THREAD_H

#include <pthread.h>

/* pthread_create with all signals blocked in the new thread, but for those that a fault of its own raises (SIGBUS,
 * SIGSEGV and the like: blocked ones would end the process without its handler). Returns 0 or an errno. */
int sur_thread_start(pthread_t *thread, void *(*fn)(void *arg), void *arg);

#endif
