/* Real-time priority for a thread that must not come late. */
#ifndef OS_PRIORITY_H
#define OS_PRIORITY_H

#include <stdbool.h>

/* Asks for it for the calling thread; false if the system does not grant it (ulimit -r, CAP_SYS_NICE). */
bool os_priority_realtime(void);

#endif
