/* Real-time priority. */
#ifndef OS_PRIORITY_H
#define OS_PRIORITY_H

#include <stdbool.h>

/* Requests it for the calling thread. Returns false if the system refuses (ulimit -r, CAP_SYS_NICE). inherit: threads
 * that the calling thread creates inherit it. */
bool os_priority_realtime(bool inherit);
void os_priority_normal(void); /* gives it back */

#endif
