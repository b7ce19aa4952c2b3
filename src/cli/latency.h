/* Added latency per step (docs/realtime.md), collected during the run and reported at the end as JSON. Main thread. */
#ifndef LATENCY_H
#define LATENCY_H

#include <stdint.h>

enum { LATENCY_BINS = 12000 };

struct latency {
    int64_t steps, startup_steps, above_80_ms;
    int64_t max_ns;
    int64_t bins[LATENCY_BINS]; /* latency_bin's */
};

/* The other fields of the report. */
struct latency_context {
    const char *source, *backend, *resampler; /* resampler: "none", "soxr", "speex" */
    int rate, delay_ms;
    double resampler_ms;     /* the longest delay of the resampler */
    double period_ms;        /* the longest block that the source delivered */
    double longest_queue_ms; /* captured and not encoded, after the start */
    double skipped_ms;       /* time without audio, for any reason */
    int64_t skips,
        lost_frames; /* skips by the lag policy; frames that the ring had no space for, or that no device delivered */
};

/* Adds a step whose audio was captured at entry_ns and whose text was written at written_ns. */
void latency_add(struct latency *l, int64_t entry_ns, int64_t written_ns);
/* Returns a percentile in ms, exact to 0.05 ms below 200 ms and to 10 ms up to 80 s; 0 if there are no steps. */
double latency_percentile(const struct latency *l, double p);
/* Writes the report. SUR_OK, or SUR_ERR_IO with a line (util/failure.h). */
int latency_report(const struct latency *l, const struct latency_context *context, const char *path);

#endif
