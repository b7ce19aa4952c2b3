#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checks.h"

enum { BATCHES = 60, WARM = 5, MIN_LAUNCHES = 20, SMALL_LAUNCHES = 200, MAX_LAUNCHES = 400 };

static const size_t POOL_BYTES = (size_t)8 << 30, SEED_BYTES = (size_t)64 << 20, TURN_BYTES = (size_t)5 << 28;
static CUdeviceptr pool;
static size_t pool_bytes;
static double read_bytes_a_second;
int bench_failed;

int bench_open(void)
{
    size_t free_bytes = 0, all = 0;
    CU(cu.cuMemGetInfo(&free_bytes, &all));
    pool_bytes = free_bytes * 7 / 10 < POOL_BYTES ? free_bytes * 7 / 10 / SEED_BYTES * SEED_BYTES : POOL_BYTES;
    if (pool_bytes < 4 * SEED_BYTES)
        return printf("kernel_check: %zu bytes of free memory are too few\n", free_bytes), 1;
    uint16_t *seed = malloc(SEED_BYTES);
    if (!seed) return printf("kernel_check: no host memory\n"), 1;
    random_seed(1);
    for (size_t i = 0; i < SEED_BYTES / 2; i++) { /* exponents 2^-10 to 2^-5 as bf16, near 1 as fp16 */
        uint32_t r = random_bits();
        seed[i] = (uint16_t)((r & 0x8000) | (0x3a80 + (r >> 16) % 0x300));
    }
    CU(cu.cuMemAlloc(&pool, pool_bytes));
    memory_put(pool, seed, SEED_BYTES);
    free(seed);
    for (size_t done = SEED_BYTES; done < pool_bytes;) {
        size_t n = done < pool_bytes - done ? done : pool_bytes - done;
        CU(cu.cuMemcpyDtoD(pool + done, pool, n));
        done += n;
    }
    CU(cu.cuCtxSynchronize());
    return 0;
}

sur_gpu_ptr bench_floats(const char *name, size_t n)
{
    float *x = malloc(n * sizeof *x);
    if (!x) exit(1);
    data_fill(x, n, DATA_RANDOM);
    sur_gpu_ptr p = memory_of(name, x, n * sizeof *x);
    free(x);
    return p;
}

sur_gpu_ptr bench_zeros(const char *name, size_t n_bytes)
{
    sur_gpu_ptr p = memory_new(name, n_bytes);
    CU(cu.cuMemsetD32(p, 0, (n_bytes + 3) / 4));
    CU(cu.cuCtxSynchronize());
    return p;
}

/* ---- time ---- */

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

struct times {
    double median, low, high; /* microseconds per launch: 50, 5 and 95% */
};

static struct times summary(float *ms, int n, int launches)
{
    qsort(ms, (size_t)n, sizeof *ms, by_value);
    double scale = 1e3 / launches;
    return (struct times){(double)ms[n / 2] * scale, (double)ms[n / 20] * scale, (double)ms[n - 1 - n / 20] * scale};
}

static struct times time_graph(CUgraphExec graph, int launches)
{
    float ms[BATCHES];
    CUevent begin, end;
    CU(cu.cuEventCreate(&begin, CU_EVENT_DEFAULT));
    CU(cu.cuEventCreate(&end, CU_EVENT_DEFAULT));
    for (int i = -WARM; i < BATCHES; i++) {
        CU(cu.cuEventRecord(begin, device.stream));
        CU(cu.cuGraphLaunch(graph, device.stream));
        CU(cu.cuEventRecord(end, device.stream));
        CU(cu.cuStreamSynchronize(device.stream));
        if (i >= 0) CU(cu.cuEventElapsedTime(&ms[i], begin, end));
    }
    CU(cu.cuEventDestroy(begin));
    CU(cu.cuEventDestroy(end));
    return summary(ms, BATCHES, launches);
}

/* Sets the addresses that the i-th launch reads from. */
static void set_rotated(unsigned char *parameters, const struct bench_item *item, size_t i)
{
    size_t turn = 0, at = 0;
    for (int j = 0; j < 3; j++) turn += (item->rotate_bytes[j] + 4095) / 4096 * 4096;
    size_t places = turn ? pool_bytes / turn : 1;
    if (turn) at = i % places * turn;
    for (int j = 0; j < 3; j++) {
        if (!item->rotate_bytes[j]) continue;
        uint64_t address = pool + at;
        memcpy(parameters + item->rotate[j], &address, sizeof address);
        at += (item->rotate_bytes[j] + 4095) / 4096 * 4096;
    }
}

/* Times as many launches as read TURN_BYTES; each overlaps with the one before it if the device can. */
static struct times time_item(const struct bench_item *item, CUfunction f)
{
    size_t turn = item->rotate_bytes[0] + item->rotate_bytes[1] + item->rotate_bytes[2];
    int launches = turn ? (int)(TURN_BYTES / turn) + 1 : SMALL_LAUNCHES;
    launches = launches < MIN_LAUNCHES ? MIN_LAUNCHES : launches > MAX_LAUNCHES ? MAX_LAUNCHES : launches;
    CUgraph graph;
    CUgraphExec made;
    unsigned char parameters[BENCH_MAX_PARAMETERS];
    memcpy(parameters, item->parameters, sizeof parameters);
    if (item->launch.shared_bytes > 0)
        CU(cu.cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)item->launch.shared_bytes));
    CU(cu.cuStreamBeginCapture(device.stream, CU_STREAM_CAPTURE_MODE_RELAXED));
    for (int i = 0; i < launches; i++) {
        set_rotated(parameters, item, (size_t)i);
        kernel_launch(f, &item->launch, parameters, i > 0);
    }
    CU(cu.cuStreamEndCapture(device.stream, &graph));
    CU(cu.cuGraphInstantiate(&made, graph, 0));
    struct times t = time_graph(made, launches);
    CU(cu.cuGraphExecDestroy(made));
    CU(cu.cuGraphDestroy(graph));
    return t;
}

double bench_probe(void)
{
    CUfunction f = kernel_find("k_probe");
    static const int factors[] = {1, 2, 3, 4, 6, 8, 16};
    double best = 0;
    int best_grid = 0;
    if (!f) return report_missing("k_probe"), 0;
    sur_gpu_ptr sink = bench_zeros("sink", 4);
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
        struct sur_gpu_probe p = {pool, sink, pool_bytes};
        struct bench_item item = {.launch = {{(unsigned)(device.multiprocessors * factors[i]), 1, 1}, 512, 0}};
        memcpy(item.parameters, &p, sizeof p);
        float ms[21];
        CUevent begin, end;
        CU(cu.cuEventCreate(&begin, CU_EVENT_DEFAULT));
        CU(cu.cuEventCreate(&end, CU_EVENT_DEFAULT));
        for (int j = -2; j < 21; j++) {
            CU(cu.cuEventRecord(begin, device.stream));
            kernel_launch(f, &item.launch, item.parameters, false);
            CU(cu.cuEventRecord(end, device.stream));
            device_wait();
            if (j >= 0) CU(cu.cuEventElapsedTime(&ms[j], begin, end));
        }
        CU(cu.cuEventDestroy(begin));
        CU(cu.cuEventDestroy(end));
        double rate = (double)pool_bytes / (summary(ms, 21, 1).median * 1e-6);
        if (rate > best) best = rate, best_grid = device.multiprocessors * factors[i];
    }
    printf("%s, %d multiprocessors: reads %.1f GB/s (%.2f GiB of random data, grid %d of 512 threads)\n", device.name,
           device.multiprocessors, best * 1e-9, (double)pool_bytes / (1 << 30), best_grid);
    return best;
}

/* ---- table ---- */

void bench_header(void)
{
    printf("%-50s %-22s %5s %9s %9s %9s %9s\n", "what", "kernel", "grid", "us", "5%", "95%", "rate");
}

void bench_run(const struct bench_item *item)
{
    char line[100];
    snprintf(line, sizeof line, "%s %s", item->kernel, item->name);
    if (report_only && !strstr(line, report_only)) return;
    CUfunction f = kernel_find(item->kernel);
    if (!f) {
        printf("%-50s %-22s is in none of the modules\n", item->name, item->kernel);
        bench_failed = 1;
        return;
    }
    struct times t = time_item(item, f);
    printf("%-50s %-22s %5u %9.2f %9.2f %9.2f", item->name, item->kernel,
           item->launch.grid[0] * item->launch.grid[1] * item->launch.grid[2], t.median, t.low, t.high);
    if (item->flops > 0) printf(" %7.1f TFLOP/s", item->flops / t.median * 1e-6);
    if (item->n_bytes > 0)
        printf(" %7.1f GB/s %5.1f%%", item->n_bytes / t.median * 1e-3,
               100 * item->n_bytes / (t.median * 1e-6) / read_bytes_a_second);
    printf("\n");
    fflush(stdout);
}

int bench(void)
{
    int r = bench_open();
    if (r) return r;
    read_bytes_a_second = bench_probe();
    if (read_bytes_a_second == 0) return 1;
    bench_header();
    bench_items();
    double again = bench_probe(); /* clock rates and other users drift */
    printf("second probe: %+.1f%%\n", 100 * (again / read_bytes_a_second - 1));
    CU(cu.cuMemFree(pool));
    device_close();
    return bench_failed;
}
