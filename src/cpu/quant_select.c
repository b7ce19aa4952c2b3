#include <string.h>

#include "cpu/quant.h"

#if defined(__x86_64__)
#include <cpuid.h>

static bool has_avx_vnni(void)
{
    unsigned a, b, c, d; /* clang 14 does not know "avxvnni" by name */
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1 << 4);
}

const struct sur_quant_ops *sur_quant_select(const struct sur_cpu_ops *ops)
{
    if (ops == &sur_ops_avx512 && __builtin_cpu_supports("avx512vnni")) return &sur_quant_avx512;
    if (ops == &sur_ops_plain) return &sur_quant_plain;
    return has_avx_vnni() ? &sur_quant_avx_vnni : &sur_quant_avx2;
}
#elif defined(__aarch64__)
#include <sys/auxv.h>

const struct sur_quant_ops *sur_quant_select(const struct sur_cpu_ops *ops)
{
    const unsigned long dot_product = 1ul << 20; /* HWCAP_ASIMDDP */
    return getauxval(AT_HWCAP) & dot_product ? &sur_quant_neon : &sur_quant_plain;
}
#else
const struct sur_quant_ops *sur_quant_select(const struct sur_cpu_ops *ops)
{
    return &sur_quant_plain;
}
#endif
