/* The main thread of a live run: decodes, writes, hears signals. */
#include "cli/run.h"

#include <string.h>

#include "cli/message.h"
#include "cli/os_signal.h"
#include "cli/run_overlay.h"
#include "util/clock.h"
#include "util/failure.h"
#include "util/scale.h"

enum { TICK_NS = 250000000, MORE_SECONDS = 10 };

static double max_lag(const struct run *run)
{
    const struct options *o = &run->options;
    if (o->max_lag > 0) return (double)o->max_lag;
    return o->pace || !o->source ? OPTIONS_MAX_LAG : 0; /* a pipe's writer waits, so nothing has to be dropped */
}

static int start(struct run *run)
{
    struct live *l = &run->live;
    l->max_lag = max_lag(run);
    /* On the CPU it would wait for workers that have no such priority, and keep them from the cores. */
    l->realtime = strcmp(sur_model_backend(run->model), "cpu") != 0;
    int status = SUR_OK;
    if (!run->device) status = capture_create(&run->capture, run->source.rate, l->max_lag + MORE_SECONDS);
    l->session = run->session;
    l->capture = run->capture;
    l->rate = run->source.rate;
    l->source = run->device ? NULL : &run->source;
    l->mix = &run->mix;
    l->frames = run->frames;
    l->max_frames = run->max_frames;
    l->n_frames = run->n_frames;
    l->pace = run->options.pace ? 1 : 0;
    l->waits = run->waits;
    l->delay_ms = run->options.delay_ms ? run->options.delay_ms : sur_model_delay_ms(run->model);
    if (status == SUR_OK) status = live_start(l);
    if (status == SUR_OK && run->device) device_wake_by(run->device, l->decode_wake);
    if (status == SUR_OK) return EXIT_DONE;
    message_error("%s", failure_text());
    return EXIT_FAILED;
}

static void say_device(const struct device_event *e)
{
    const char *name = e->info.name;
    switch (e->what) {
    case MIC_SOUND:
        message_notice(run_sound_topic(e->info.sound), "the microphone %s %s", name, downmix_text(e->info.sound));
        break;
    case MIC_LATE:
        message_notice(MESSAGE_LOST, "the microphone %s delivers nothing yet: still waiting", name);
        break;
    case MIC_DELIVERS:
        if (e->info.late)
            message_notice(MESSAGE_ANY, "the microphone %s delivers", name);
        else
            message_debug("the microphone %s delivers", name);
        break;
    case MIC_LOST:
        message_notice(MESSAGE_LOST, "the microphone %s is gone: captions continue when it is back", name);
        break;
    default:
        if (e->info.device_rate == e->info.rate)
            message_notice(MESSAGE_ANY, "the microphone %s is back", name);
        else
            message_notice(MESSAGE_ANY, "the microphone %s is back, at %d Hz", name, e->info.device_rate);
    }
}

static int tell_device(struct run *run)
{
    struct device_event e;
    int status = EXIT_DONE;
    while (status == EXIT_DONE && (e = device_poll(run->device)).what != MIC_NOTHING) {
        int64_t frames = e.what == MIC_LOST ? capture_clock(run->capture) : capture_back(run->capture);
        struct sink_device said = {
            .name = e.info.name, .lost = e.what == MIC_LOST, .t = sur_scale(frames, SUR_RATE, run->live.rate)};
        say_device(&e);
        if (e.what == MIC_LOST || e.what == MIC_BACK) status = run_tell_device(run, &said);
    }
    return status;
}

/* The microphone is let go while we are stopped, so that its light goes out. */
static void suspend(struct run *run)
{
    run_overlay_suspend(run);
    device_pause(run->device);
    os_signal_sleep();
    device_resume(run->device);
    run_overlay_resume(run);
}

/* The start says when the first sample was recorded, so it waits for it. */
static int tell_start(struct run *run)
{
    bool known = !run->device || capture_first_wall(run->capture) != 0;
    return !run->told_start && (known || run->live.stopping) ? run_tell_start(run) : EXIT_DONE;
}

/* One step, or a wait. *state: what the session said. */
static int turn(struct run *run, int64_t *ticked, int *state)
{
    struct live *l = &run->live;
    bool rests = atomic_load(&l->rests); /* first: what the silence makes come out is there for the step below */
    int status = tell_start(run);
    if (status == EXIT_DONE && run->device) status = tell_device(run);
    run_tell_channels(run);
    if (status != EXIT_DONE) return status;
    if (os_signal_stop() && !l->stopping) {
        live_stop_input(l);
        if (run->device) device_stop(run->device);
    }
    if (run->device && !l->stopping && os_signal_suspend()) suspend(run);
    *state = live_decode(l);
    status = run_tell_events(run);
    if (status != EXIT_DONE) return status;
    if (*state == SUR_OK) live_written(l);
    run_overlay_tell(run, atomic_load(&l->level), (double)atomic_load(&l->backlog) / SUR_RATE);
    if (*state == SUR_AGAIN && rests && !run->told_rest) status = run_tell_rest(run);
    run->told_rest = rests && (run->told_rest || *state == SUR_AGAIN);
    if (status != EXIT_DONE) return status;
    if (*state == SUR_AGAIN) live_wait(l, TICK_NS);
    if (*state != SUR_OK && *state != SUR_AGAIN && *state != SUR_END) {
        message_error("%s", live_error(l));
        return EXIT_FAILED;
    }
    if (sur_clock_ns() - *ticked < TICK_NS) return EXIT_DONE;
    *ticked = sur_clock_ns();
    return run_tell_time(run);
}

static int report(struct run *run, int64_t lost_frames)
{
    const struct live *l = &run->live;
    struct sur_session_stats s;
    sur_session_get_stats(run->session, &s);
    struct latency_context c = {.source = run->source.name,
                                .backend = sur_model_backend(run->model),
                                .resampler = l->rate == SUR_RATE    ? "none"
                                             : !run->options.source ? "speex"
                                                                    : "soxr",
                                .rate = l->rate,
                                .delay_ms =
                                    run->options.delay_ms ? run->options.delay_ms : sur_model_delay_ms(run->model),
                                .resampler_ms = l->rate == SUR_RATE ? 0 : (double)l->longest_held * 1000 / SUR_RATE,
                                .period_ms = (double)l->longest_block * 1000 / l->rate,
                                .longest_queue_ms = (double)l->lag.longest * 1000 / SUR_RATE,
                                .skipped_ms = (double)s.skipped_samples * 1000 / SUR_RATE,
                                .skips = l->n_lag_skips,
                                .lost_frames = lost_frames};
    if (latency_report(&l->latency, &c, run->options.latency_report) == SUR_OK) return EXIT_DONE;
    message_error("%s", failure_text());
    return EXIT_FAILED;
}

int run_live(struct run *run)
{
    struct live *l = &run->live;
    int64_t ticked = sur_clock_ns();
    int state = SUR_AGAIN, status = start(run);
    while (status == EXIT_DONE && state != SUR_END && run_any_sink(run)) status = turn(run, &ticked, &state);
    bool ended = device_finish(&run->device); /* first: it wakes this thread by a descriptor of the other's */
    live_finish(l);
    run_tell_channels(run);
    int64_t lost = run->capture ? capture_lost(run->capture) : 0;
    if (!ended) run->capture = NULL; /* a sound server holds its thread up */
    if (status == EXIT_DONE && run->options.latency_report) status = report(run, lost);
    if (status == EXIT_DONE && l->read_status < 0)
        status = run_source_failed(run, failure(l->read_status, "%s", l->read_error));
    return status;
}
