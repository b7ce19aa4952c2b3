#include "cli/os_worker.h"

#include <signal.h>
#include <stddef.h>

int os_worker_start(pthread_t *thread, void *(*run)(void *arg), void *arg)
{
    static const int handled[] = {SIGINT, SIGTERM, SIGHUP, SIGALRM, SIGTSTP, SIGWINCH, SIGCHLD};
    sigset_t blocked, before;
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++) sigaddset(&blocked, handled[i]);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    int error = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

void os_worker_allow_interrupt(void)
{
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
}
