#include "cli/latency.h"

#include <inttypes.h>
#include <math.h>

#include "sink/json.h"
#include "sink/output.h"
#include "surtitle.h"
#include "util/failure.h"

enum { FINE_BINS = 4000 /* of 0.05 ms */ };

static int bin_of(int64_t ns)
{
    if (ns < 0) ns = 0;
    int64_t bin = ns / 50000;
    if (bin >= FINE_BINS) bin = FINE_BINS + (ns - 200000000) / 10000000;
    return bin < LATENCY_BINS ? (int)bin : LATENCY_BINS - 1;
}

/* Upper edge of a bin. */
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

/* [[upper edge in ms, steps], ...]; the last bin has no edge. */
static void put_histogram(struct output *out, const struct latency *l)
{
    static const double edges[] = {0.5, 1,  1.5, 2,  2.5, 3,  3.5, 4,   5,   6,    8,
                                   10,  15, 20,  30, 40,  60, 80,  160, 500, 1000, 5000};
    int bin = 0;
    output_printf(out, "  \"histogram_ms\": [");
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        int64_t n = 0;
        for (; bin < LATENCY_BINS && bin_ms(bin) <= edges[i] + 1e-9; bin++) n += l->bins[bin];
        output_printf(out, "[%g, %" PRId64 "], ", edges[i], n);
    }
    int64_t rest = 0;
    for (; bin < LATENCY_BINS; bin++) rest += l->bins[bin];
    output_printf(out, "[null, %" PRId64 "]]\n", rest);
}

int latency_report(const struct latency *l, const struct latency_context *c, const char *path)
{
    struct output file, *out = &file;
    int status = output_open(out, path);
    if (status != SUR_OK) return status;
    output_printf(out, "{\n  \"source\": ");
    json_append_string(out, c->source);
    output_printf(out, ", \"backend\": ");
    json_append_string(out, c->backend);
    output_printf(out, ", \"rate\": %d, \"delay_ms\": %d,\n", c->rate, c->delay_ms);
    output_printf(out, "  \"steps\": %" PRId64 ", \"startup_steps\": %" PRId64 ",\n", l->steps, l->startup_steps);
    output_printf(out,
                  "  \"added_ms\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f, \"p99.9\": %.3f, \"max\": %.3f},\n",
                  latency_percentile(l, 50), latency_percentile(l, 90), latency_percentile(l, 99),
                  latency_percentile(l, 99.9), (double)l->max_ns * 1e-6);
    output_printf(out, "  \"above_80_ms\": %" PRId64 ", \"longest_queue_ms\": %.1f,\n", l->above_80_ms,
                  c->longest_queue_ms);
    output_printf(out, "  \"skips\": %" PRId64 ", \"skipped_ms\": %.1f, \"lost_frames\": %" PRId64 ",\n", c->skips,
                  c->skipped_ms, c->lost_frames);
    output_printf(out, "  \"resampler\": \"%s\", \"resampler_delay_ms\": %.2f, \"period_ms\": %.2f,\n", c->resampler,
                  c->resampler_ms, c->period_ms);
    put_histogram(out, l);
    output_printf(out, "}\n");
    status = output_flush(out);
    int closed = output_close(out);
    return status < 0 ? status : closed;
}
