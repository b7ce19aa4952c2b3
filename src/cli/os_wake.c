#include "cli/os_wake.h"

#include <poll.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

int os_wake_open(void)
{
    return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
}

void os_wake_post(int fd)
{
    uint64_t one = 1;
    if (write(fd, &one, sizeof one) < 0) return; /* the counter is full, so the descriptor is readable */
}

void os_wake_wait(int fd, int other, int64_t timeout_ns)
{
    struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = other, .events = POLLIN}};
    struct timespec timeout = {.tv_sec = timeout_ns / 1000000000, .tv_nsec = timeout_ns % 1000000000};
    uint64_t n;
    if (ppoll(fds, other >= 0 ? 2 : 1, timeout_ns < 0 ? NULL : &timeout, NULL) < 0) return;
    for (int i = 0; i < 2; i++)
        if (fds[i].revents && read(fds[i].fd, &n, sizeof n) < 0) return; /* another thread has reset it */
}

bool os_wake_raise(atomic_bool *flag)
{
    bool was_up = atomic_exchange(flag, true);
    atomic_thread_fence(memory_order_seq_cst);
    return was_up;
}

bool os_wake_lower(atomic_bool *flag)
{
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_load(flag) && atomic_exchange(flag, false);
}
