#include "cli/os_priority.h"

#include <sched.h>

enum { PRIORITY = 10 }; /* below what sound servers run at */

bool os_priority_realtime(void)
{
    struct sched_param param = {.sched_priority = PRIORITY};
    return sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &param) == 0; /* 0: this thread, on Linux */
}
