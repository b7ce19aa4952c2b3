#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"

const char *const data_names[DATA_KINDS] = {"random", "integer", "zero", "denormal", "large", "spike"};

static uint64_t state = 88172645463325252u;

void random_seed(uint64_t seed)
{
    state = (seed + 1) * 0x9e3779b97f4a7c15u;
}

uint32_t random_bits(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 32);
}

float random_normal(void)
{
    int32_t sum = 0;
    uint32_t a = random_bits(), b = random_bits();
    sum = (int32_t)(a & 0xffff) + (int32_t)(a >> 16) + (int32_t)(b & 0xffff) + (int32_t)(b >> 16) - 4 * 32768;
    return (float)sum * (1.7320508f / 65536); /* each uniform has variance 1/12 */
}

void data_fill(float *x, size_t n, enum data kind)
{
    for (size_t i = 0; i < n; i++) {
        float r = random_normal();
        switch (kind) {
        case DATA_INTEGER:
            x[i] = (float)((int)(random_bits() % 4095) - 2047);
            break;
        case DATA_ZERO:
            x[i] = random_bits() & 1 ? 0.0f : -0.0f;
            break;
        case DATA_DENORMAL:
            x[i] = r * 1e-40f;
            break;
        case DATA_LARGE:
            x[i] = random_bits() & 1 ? 1e4f : -1e4f;
            break;
        case DATA_SPIKE:
            x[i] = i == n / 2 ? 1e4f : r * 1e-3f;
            break;
        default:
            x[i] = r;
        }
    }
}

uint16_t to_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float from_bf16(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* Rounded by hand, to check the device's instruction by another way. */
uint16_t to_fp16(float x)
{
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    double a = fabs((double)x);
    if (isnan(x)) return sign | 0x7e00;
    if (a >= 65504) return sign | 0x7bff;
    if (a < 0x1p-14) return sign | (uint16_t)nearbyint(a * 0x1p24);
    int exponent;
    double f = frexp(a, &exponent); /* a = f 2^exponent, 1/2 <= f < 1 */
    uint32_t fraction = (uint32_t)nearbyint(f * 2048);
    uint32_t u = (uint32_t)(exponent + 14) * 1024 + fraction - 1024;
    return sign | (uint16_t)(u > 0x7bff ? 0x7bff : u);
}

float from_fp16(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    float x = exponent == 31  ? (fraction ? NAN : INFINITY)
              : exponent == 0 ? (float)fraction * 0x1p-24f
                              : ldexpf((float)(fraction + 1024), exponent - 25);
    return h & 0x8000 ? -x : x;
}

/* ---- threads ---- */

struct job {
    void (*part)(void *arg, int i);
    void *arg;
    int n;
    atomic_int next;
};

static void *work(void *arg)
{
    struct job *j = arg;
    for (int i; (i = atomic_fetch_add(&j->next, 1)) < j->n;) j->part(j->arg, i);
    return NULL;
}

void in_parallel(void (*part)(void *arg, int i), void *arg, int n)
{
    struct job j = {part, arg, n, 0};
    pthread_t threads[32];
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int wanted = (int)(cores > 32 ? 32 : cores) - 1, made = 0;
    while (made < wanted && made < n - 1 && !pthread_create(&threads[made], NULL, work, &j)) made++;
    work(&j);
    for (int i = 0; i < made; i++) pthread_join(threads[i], NULL);
}

/* ---- report ---- */

struct tally *tally;
const char *report_only;
bool report_list, report_only_small;

const char *text(const char *format, ...)
{
    static char lines[16][240];
    static int next;
    char *line = lines[next++ % 16];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof lines[0], format, arguments);
    va_end(arguments);
    return line;
}

bool report_small(double multiply_adds)
{
    return !report_only_small || multiply_adds < 4 << 20;
}

bool report_wanted(const char *kernel, const char *shape)
{
    const char *line = text("%s %s", kernel, shape);
    if (report_only && !strstr(line, report_only)) return false;
    if (!report_list) return true;
    puts(line);
    return false;
}

void report(const char *kernel, const char *shape, double worst, const char *reason)
{
    if (reason)
        printf("FAIL %s %s: %s\n", kernel, shape, reason);
    else if (worst < 0)
        printf("ok   %s %s: equal\n", kernel, shape);
    else
        printf("ok   %s %s: %.2g of the bound\n", kernel, shape, worst);
    fflush(stdout);
    if (reason)
        tally->failed++;
    else
        tally->passed++;
}

void report_missing(const char *kernel)
{
    if (report_only) {
        printf("skip %s: in none of the modules\n", kernel);
        tally->skipped++;
    } else {
        printf("FAIL %s: in none of the modules\n", kernel);
        tally->failed++;
    }
    fflush(stdout);
}
