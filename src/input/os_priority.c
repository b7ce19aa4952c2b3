#include "input/os_priority.h"

#include <sched.h>

enum { PRIORITY = 10 }; /* below what sound servers run at */

bool os_priority_realtime(bool inherit)
{
    struct sched_param param = {.sched_priority = PRIORITY};
    return sched_setscheduler(0, SCHED_RR | (inherit ? 0 : SCHED_RESET_ON_FORK), &param) == 0; /* 0: this thread */
}

void os_priority_normal(void)
{
    struct sched_param param = {0};
    sched_setscheduler(0, SCHED_OTHER, &param);
}
