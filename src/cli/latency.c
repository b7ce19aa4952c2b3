#include "cli/latency.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "surtitle.h"
#include "util/error.h"

enum { FINE_BINS = 4000 /* of 0.05 ms */ };

static int bin_of(int64_t ns)
{
    if (ns < 0) ns = 0;
    int64_t bin = ns / 50000;
    if (bin >= FINE_BINS) bin = FINE_BINS + (ns - 200000000) / 10000000;
    return bin < LATENCY_BINS ? (int)bin : LATENCY_BINS - 1;
}

/* Its upper edge. */
static double bin_ms(int bin)
{
    return bin < FINE_BINS ? 0.05 * (bin + 1) : 200 + 10.0 * (bin - FINE_BINS + 1);
}

void latency_add(struct latency *l, int64_t entry_ns, int64_t written_ns)
{
    int64_t ns = written_ns - entry_ns;
    l->steps++;
    l->bins[bin_of(ns)]++;
    if (ns > l->max_ns) l->max_ns = ns;
    if (ns > 80000000) l->above_80_ms++;
}

double latency_percentile(const struct latency *l, double p)
{
    int64_t seen = 0, want = (int64_t)ceil((double)l->steps * p / 100);
    if (l->steps == 0) return 0;
    for (int i = 0; i < LATENCY_BINS; i++) {
        seen += l->bins[i];
        if (seen >= want) return fmin(bin_ms(i), (double)l->max_ns * 1e-6);
    }
    return (double)l->max_ns * 1e-6;
}

/* [[upper edge in ms, steps], ...]; the last one has no edge. */
static void put_histogram(FILE *f, const struct latency *l)
{
    static const double edges[] = {0.5, 1,  1.5, 2,  2.5, 3,  3.5, 4,   5,   6,    8,
                                   10,  15, 20,  30, 40,  60, 80,  160, 500, 1000, 5000};
    int bin = 0;
    fprintf(f, "  \"histogram_ms\": [");
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        int64_t n = 0;
        for (; bin < LATENCY_BINS && bin_ms(bin) <= edges[i] + 1e-9; bin++) n += l->bins[bin];
        fprintf(f, "[%g, %" PRId64 "], ", edges[i], n);
    }
    int64_t rest = 0;
    for (; bin < LATENCY_BINS; bin++) rest += l->bins[bin];
    fprintf(f, "[null, %" PRId64 "]]\n", rest);
}

static void put_string(FILE *f, const char *name, const char *text)
{
    fprintf(f, "\"%s\": \"", name);
    for (; *text; text++) { /* names are clean UTF-8 already */
        if (*text == '"' || *text == '\\') fputc('\\', f);
        fputc((unsigned char)*text < 0x20 ? '?' : *text, f);
    }
    fprintf(f, "\", ");
}

int latency_report(const struct latency *l, const struct latency_context *c, const char *path)
{
    FILE *f = fopen(path, "we");
    if (!f) return sur_fail(SUR_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    fprintf(f, "{\n  ");
    put_string(f, "source", c->source);
    put_string(f, "backend", c->backend);
    fprintf(f, "\"rate\": %d, \"delay_ms\": %d,\n", c->rate, c->delay_ms);
    fprintf(f, "  \"steps\": %" PRId64 ", \"startup_steps\": %" PRId64 ",\n", l->steps, l->startup_steps);
    fprintf(f, "  \"added_ms\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"p99.9\": %.3f, \"max\": %.3f},\n",
            latency_percentile(l, 50), latency_percentile(l, 90), latency_percentile(l, 99),
            latency_percentile(l, 99.9), (double)l->max_ns * 1e-6);
    fprintf(f, "  \"above_80_ms\": %" PRId64 ", \"longest_queue_ms\": %.1f,\n", l->above_80_ms, c->longest_queue_ms);
    fprintf(f, "  \"skips\": %" PRId64 ", \"skipped_ms\": %.1f, \"lost_frames\": %" PRId64 ",\n", c->skips,
            c->skipped_ms, c->lost_frames);
    fprintf(f, "  \"resampler\": \"%s\", \"resampler_delay_ms\": %.2f, \"period_ms\": %.2f,\n", c->resampler,
            c->resampler_ms, c->period_ms);
    put_histogram(f, l);
    fprintf(f, "}\n");
    bool failed = ferror(f) != 0;
    if (fclose(f) != 0 || failed) return sur_fail(SUR_ERR_IO, "cannot write %s: %s", path, strerror(errno));
    return SUR_OK;
}
