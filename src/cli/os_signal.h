/* Signals, and descriptors inherited closed. */
#ifndef OS_SIGNAL_H
#define OS_SIGNAL_H

#include <signal.h>
#include <stdbool.h>

/* Call once, before anything else. SIGINT, SIGTERM and SIGHUP ask for the end of the run, however often they come and
 * also where they were inherited as ignored. Only a second SIGINT, at least 0.5 s after the first, leaves at once with
 * 130. SIGPIPE and SIGXFSZ are ignored. SIGBUS from a file of the model, which was cut or cannot be read, is one line
 * and status 1. Before a crash ends the program, what os_signal_before_exit was given is called. No system call is
 * restarted: a call that blocks returns EINTR. */
void os_signal_install(void);
bool os_signal_stop(void); /* the end was asked for, by a signal or by os_signal_request_stop */
/* The program itself asks for the end (CMD has ended): from any thread, and never counted as a signal. */
void os_signal_request_stop(void);
/* What must be done before the program leaves at once (a terminal to give back): async-signal-safe. Two at most. */
void os_signal_before_exit(void (*restore)(void));
/* An event descriptor (os_wake.h), posted once the end or a suspend was asked for; -1: it could not be made. */
int os_signal_fd(void);
/* From now on Ctrl-Z is told by os_signal_suspend (once each time), and os_signal_sleep stops the program until it is
 * continued: what must be let go is let go in between. */
void os_signal_watch_suspend(void);
bool os_signal_suspend(void);
void os_signal_sleep(void);
/* Opens descriptors 0 to 2 where they are closed, such that using them fails, so that no file of ours gets one. */
void os_signal_hold_descriptors(void);

#endif
