/* Signals, and descriptors inherited closed. */
#ifndef OS_SIGNAL_H
#define OS_SIGNAL_H

#include <signal.h>
#include <stdbool.h>

/* To be called once, before all else. Installs handlers, also for signals that were inherited as ignored:
 *
 * - SIGINT, SIGTERM and SIGHUP request a stop, however often they come. A second SIGINT, at least 0.5 s after the
 * first, exits at once with status 130.
 * - SIGPIPE and SIGXFSZ are ignored.
 * - SIGBUS from a file of the model that was truncated or cannot be read: prints one line, exits with status 1.
 * - Signals of a crash: call the functions of os_signal_before_exit, then end the program as usual.
 *
 * System calls are not restarted: a blocking call returns EINTR. */
void os_signal_install(void);
bool os_signal_stop(void); /* any thread: a stop was requested, by a signal or by os_signal_request_stop */
/* Requests a stop (CMD has ended). Any thread. Does not count as a signal. */
void os_signal_request_stop(void);
/* Adds a function, at most two, to be called before the program exits at once or crashes, for example to restore the
 * terminal. It must be async-signal-safe. */
void os_signal_before_exit(void (*restore)(void));
/* An event descriptor (os_wake.h), posted to when a stop or a suspend was requested; -1 if it could not be created. */
int os_signal_fd(void);
/* From now on Ctrl-Z (SIGTSTP) does not stop the process, but os_signal_suspend returns true, once for each. The caller
 * releases its devices and calls os_signal_sleep, which stops the process until SIGCONT. */
void os_signal_watch_suspend(void);
bool os_signal_suspend(void);
void os_signal_sleep(void);
/* Opens those of the descriptors 0 to 2 that are closed, so that no other file gets their numbers. Reading or writing
 * them fails as before. */
void os_signal_hold_descriptors(void);

#endif
