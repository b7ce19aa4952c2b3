#include "cpu/os_cores.h"

#include <errno.h>
#include <sched.h>

#include "util/log.h"

/* Cores of the affinity mask; 0: unknown. The kernel refuses a mask smaller than its own, which on some machines is
 * larger than cpu_set_t's 1,024 bits. */
static int count_cores(void)
{
    for (int bits = CPU_SETSIZE; bits <= CPU_SETSIZE * 1024; bits *= 2) {
        const size_t n_bytes = CPU_ALLOC_SIZE(bits);
        cpu_set_t *set = CPU_ALLOC(bits);
        if (!set) return 0;
        const int r = sched_getaffinity(0, n_bytes, set), error = errno, n = r ? 0 : CPU_COUNT_S(n_bytes, set);
        CPU_FREE(set);
        if (n > 0 || error != EINVAL) return n;
    }
    return 0;
}

/* At most 16: more does not help, since the model is bound by memory. */
int sur_cores_default(void)
{
    const int n = count_cores();
    if (n == 0) sur_log(SUR_LOG_WARN, "the number of cores is unknown: one thread computes (--threads N)");
    return n < 1 ? 1 : n > 16 ? 16 : n;
}
