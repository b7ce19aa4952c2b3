/* The main thread of a live run: decodes, writes, hears signals. */
#include "cli/run.h"

#include "cli/message.h"
#include "cli/os_signal.h"
#include "util/clock.h"

enum { TICK_NS = 250000000, PIPE_SECONDS = 10, LAG_SECONDS = 20 };

static double max_lag(const struct run *run)
{
    const struct options *o = &run->options;
    if (o->max_lag > 0) return (double)o->max_lag;
    return o->pace ? OPTIONS_MAX_LAG : 0; /* a pipe's writer waits, so nothing has to be dropped */
}

static int start(struct run *run)
{
    struct live *l = &run->live;
    l->max_lag = max_lag(run);
    int status = capture_create(&run->capture, run->source.rate, PIPE_SECONDS + (l->max_lag > 0 ? LAG_SECONDS : 0));
    l->session = run->session;
    l->capture = run->capture;
    l->rate = run->source.rate;
    l->source = &run->source;
    l->frames = run->frames;
    l->max_frames = run->max_frames;
    l->n_frames = run->n_frames;
    l->pace = run->options.pace ? 1 : 0;
    if (status == SUR_OK) status = live_start(l);
    if (status == SUR_OK) return EXIT_DONE;
    message("%s", message_failure());
    return EXIT_FAILED;
}

/* One step, or a wait. *state: what the session said. */
static int turn(struct run *run, int64_t *ticked, int *state)
{
    struct live *l = &run->live;
    if (os_signal_stop() && !l->stopping) live_stop_input(l);
    *state = live_decode(l);
    int status = run_tell_events(run);
    if (status != EXIT_DONE) return status;
    if (*state == SUR_OK) live_written(l);
    if (*state == SUR_AGAIN) live_wait(l, TICK_NS);
    if (*state != SUR_OK && *state != SUR_AGAIN && *state != SUR_END) {
        message("%s", live_error(l));
        return EXIT_FAILED;
    }
    if (sur_clock_ns() - *ticked < TICK_NS) return EXIT_DONE;
    *ticked = sur_clock_ns();
    return run_tell_time(run);
}

static int report(struct run *run)
{
    const struct live *l = &run->live;
    struct sur_session_stats s;
    sur_session_get_stats(run->session, &s);
    struct latency_context c = {.source = run->source.name,
                                .backend = sur_model_backend(run->model),
                                .resampler = l->rate == SUR_RATE ? "none" : "soxr",
                                .rate = l->rate,
                                .delay_ms =
                                    run->options.delay_ms ? run->options.delay_ms : sur_model_delay_ms(run->model),
                                .resampler_ms = l->rate == SUR_RATE ? 0 : (double)l->longest_held * 1000 / SUR_RATE,
                                .period_ms = (double)l->longest_block * 1000 / l->rate,
                                .longest_queue_ms = (double)l->lag.longest * 1000 / SUR_RATE,
                                .skipped_ms = (double)s.skipped_samples * 1000 / SUR_RATE,
                                .skips = l->n_lag_skips,
                                .lost_frames = capture_lost(run->capture)};
    if (latency_report(&l->latency, &c, run->options.latency_report) == SUR_OK) return EXIT_DONE;
    message("%s", message_failure());
    return EXIT_FAILED;
}

int run_live(struct run *run)
{
    struct live *l = &run->live;
    int64_t ticked = sur_clock_ns();
    int state = SUR_AGAIN, status = start(run);
    while (status == EXIT_DONE && state != SUR_END && run_any_sink(run)) status = turn(run, &ticked, &state);
    live_finish(l);
    if (status == EXIT_DONE && run->options.latency_report) status = report(run);
    if (status == EXIT_DONE && l->read_status < 0) status = run_source_failed(run, l->read_status);
    return status;
}
