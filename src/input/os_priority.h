/* Real-time priority for threads that must not come late. */
#ifndef OS_PRIORITY_H
#define OS_PRIORITY_H

#include <stdbool.h>

/* Asks for it for the calling thread; false if the system does not grant it (ulimit -r, CAP_SYS_NICE). inherit: threads
 * that it makes get it, too. */
bool os_priority_realtime(bool inherit);
void os_priority_normal(void); /* gives it back */

#endif
