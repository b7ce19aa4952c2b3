#include "cli/os_signal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "cli/os_stderr.h"
#include "cli/os_wake.h"
#include "surtitle.h"
#include "util/clock.h"

enum { DOUBLED_NS = 500000000 }; /* wrappers and process groups send one Ctrl-C twice within milliseconds */

static atomic_bool signalled, ended;       /* a stop was requested: by a signal; by the program */
static _Atomic int64_t first_interrupt_ns; /* 0: no SIGINT came yet */
static volatile sig_atomic_t suspend;
static int stop_fd = -1; /* set before the handlers are installed */
static void (*_Atomic before_exit[2])(void);

static void clean_up(void)
{
    for (int i = 0; i < 2; i++) {
        void (*restore)(void) = before_exit[i];
        if (restore) restore();
    }
}

static void leave(int status)
{
    clean_up();
    _exit(status);
}

/* A signal that comes between a look at the flag and a call that blocks would not interrupt that call: from now on
 * SIGALRM interrupts the main thread ten times a second. Async-signal-safe, and callable from any thread. */
static void wake_everything(void)
{
    static const struct itimerval often = {{0, 100000}, {0, 100000}};
    setitimer(ITIMER_REAL, &often, NULL);
    if (stop_fd >= 0) os_wake_post(stop_fd);
}

static void on_stop(int signal)
{
    int error = errno;
    signalled = true;
    wake_everything();
    errno = error;
}

/* A second SIGTERM or SIGHUP changes nothing, because supervisors and timeout(1) send them twice. A user who presses
 * Ctrl-C again does not want to wait. */
static void on_interrupt(int signal)
{
    int64_t now = sur_clock_ns(), none = 0;
    on_stop(signal);
    if (!atomic_compare_exchange_strong(&first_interrupt_ns, &none, now) && now - none >= DOUBLED_NS)
        leave(128 + signal);
}

static void on_suspend(int signal)
{
    suspend = 1;
    if (stop_fd >= 0) os_wake_post(stop_fd);
}

static void on_clock(int signal) {}

/* SA_RESETHAND has restored the default action. */
static void on_crash(int signal)
{
    clean_up();
    os_stderr_show_last();
    raise(signal);
}

/* A file of the model was truncated or cannot be read: prints that. Any other SIGBUS is a crash. */
static void on_bus(int number, siginfo_t *info, void *context)
{
    static atomic_flag entered = ATOMIC_FLAG_INIT;
    /* Several workers may fault: only the first exits, after it has restored the terminal. */
    while (atomic_flag_test_and_set(&entered)) pause();
    const char *line = info->si_code == BUS_ADRERR ? sur_model_fault(info->si_addr) : NULL;
    if (!line) {
        signal(number, SIG_DFL);
        on_crash(number);
        return; /* the access is repeated, and ends the process */
    }
    char text[512] = "surtitle: "; /* snprintf is not async-signal-safe */
    strncat(text, line, sizeof text - sizeof "surtitle: " - 1);
    strcat(text, "\n");
    clean_up();
    if (write(os_stderr_fd(), text, strlen(text)) < 0) _exit(1);
    _exit(1);
}

static void handle(int signal, void (*handler)(int))
{
    struct sigaction action = {.sa_handler = handler};
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, NULL);
}

/* Keeps the handlers of a sanitizer. */
static void handle_crashes(void)
{
    static const int crashes[] = {SIGABRT, SIGSEGV, SIGILL, SIGFPE, SIGSYS, SIGTRAP};
    for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++) {
        struct sigaction action = {.sa_handler = on_crash, .sa_flags = (int)SA_RESETHAND | SA_NODEFER}, is;
        sigemptyset(&action.sa_mask);
        if (sigaction(crashes[i], NULL, &is) == 0 && is.sa_handler == SIG_DFL) sigaction(crashes[i], &action, NULL);
    }
}

void os_signal_install(void)
{
    static const int unblocked[] = {SIGINT, SIGTERM, SIGHUP, SIGALRM};
    sigset_t ours;
    sigemptyset(&ours);
    for (size_t i = 0; i < sizeof unblocked / sizeof *unblocked; i++) sigaddset(&ours, unblocked[i]);
    stop_fd = os_wake_open();
    handle(SIGINT, on_interrupt);
    handle(SIGTERM, on_stop);
    handle(SIGHUP, on_stop);
    handle(SIGALRM, on_clock);
    handle(SIGPIPE, SIG_IGN);
    handle(SIGXFSZ, SIG_IGN); /* a write past a limit of file sizes then fails with EFBIG */
    struct sigaction bus = {.sa_sigaction = on_bus, .sa_flags = SA_SIGINFO | SA_NODEFER};
    sigemptyset(&bus.sa_mask);
    sigaction(SIGBUS, &bus, NULL);
    handle_crashes();
    sigprocmask(SIG_UNBLOCK, &ours, NULL); /* masks are inherited */
}

bool os_signal_stop(void)
{
    return signalled || ended;
}

void os_signal_request_stop(void)
{
    ended = true;
    wake_everything();
}

void os_signal_before_exit(void (*restore)(void))
{
    int i = before_exit[0] != NULL && before_exit[0] != restore;
    before_exit[i] = restore;
}

void os_signal_watch_suspend(void)
{
    struct sigaction is;
    /* stays ignored under a shell without job control */
    if (sigaction(SIGTSTP, NULL, &is) == 0 && is.sa_handler != SIG_IGN) handle(SIGTSTP, on_suspend);
}

bool os_signal_suspend(void)
{
    bool requested = suspend;
    suspend = 0;
    return requested;
}

void os_signal_sleep(void)
{
    kill(getpid(), SIGSTOP);
}

int os_signal_fd(void)
{
    return stop_fd;
}

void os_signal_hold_descriptors(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        if (open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0) return;
    }
}
