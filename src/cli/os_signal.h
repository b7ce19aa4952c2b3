/* Signals, and descriptors inherited closed. */
#ifndef OS_SIGNAL_H
#define OS_SIGNAL_H

#include <stdbool.h>

/* Call once, first of all. SIGINT, SIGTERM and SIGHUP ask for the end, also where they were inherited as ignored; a
 * second SIGINT leaves at once with 130. SIGPIPE is ignored. SIGBUS, a mapped file that was cut, is one line and 1.
 * No call is restarted: what blocks returns EINTR. */
void os_signal_install(void);
bool os_signal_stop(void); /* the end was asked for */
/* Opens descriptors 0 to 2 where they are closed, such that using them fails, so that no file of ours gets one. */
void os_signal_hold_descriptors(void);

#endif
