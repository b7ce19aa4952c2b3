#include "cpu/ops.h"
#include "util/error.h"

#if defined(__x86_64__)
#include <cpuid.h>

static bool has_avx2(void)
{
    unsigned a, b, c = 0, d; /* clang 14 does not know "f16c" by name */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d) &&
           (c & bit_F16C);
}
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
static const struct sur_cpu_ops *avx2 = &sur_ops_avx2, *avx512 = &sur_ops_avx512;
#else
static bool has_avx2(void)
{
    return false;
}
static bool has_avx512(void)
{
    return false;
}
static const struct sur_cpu_ops *avx2, *avx512;
#endif

int sur_ops_select(const struct sur_cpu_ops **ops, enum sur_cpu_level level)
{
    switch (level) {
    case SUR_CPU_AUTO:
        *ops = has_avx512() ? avx512 : has_avx2() ? avx2 : &sur_ops_plain;
        return SUR_OK;
    case SUR_CPU_PLAIN:
        *ops = &sur_ops_plain;
        return SUR_OK;
    case SUR_CPU_AVX2:
        *ops = avx2;
        return has_avx2() ? SUR_OK : sur_fail(SUR_ERR_ARGUMENT, "this processor has no AVX2 with FMA and F16C");
    case SUR_CPU_AVX512:
        *ops = avx512;
        return has_avx512() ? SUR_OK : sur_fail(SUR_ERR_ARGUMENT, "this processor has no AVX-512 (F, BW, VL, DQ)");
    }
    return sur_fail(SUR_ERR_ARGUMENT, "no such instruction set");
}
