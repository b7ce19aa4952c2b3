/* Threads of the program. They receive none of the signals that os_signal.h handles: the main thread does. */
#ifndef OS_WORKER_H
#define OS_WORKER_H

#include <pthread.h>

/* pthread_create with those signals blocked in the new thread, and so in the threads that it creates. Returns 0 or an
 * errno. Any thread. */
int os_worker_start(pthread_t *thread, void *(*run)(void *arg), void *arg);
/* Called by such a thread: from now on SIGALRM, sent by pthread_kill, interrupts its blocking system calls. */
void os_worker_allow_interrupt(void);

#endif
