#include "cli/run_live.h"

#include <string.h>

#include "cli/exit_status.h"
#include "cli/live.h"
#include "cli/message.h"
#include "cli/os_signal.h"
#include "cli/run_overlay.h"
#include "util/clock.h"
#include "util/failure.h"
#include "util/scale.h"

enum { TICK_NS = 250000000, EXTRA_SECONDS = 10 };

struct run_live {
    struct run *run;
    struct live live;
    bool wrote_start;
    bool wrote_rest;   /* since audio came last */
    int64_t ticked_ns; /* when the outputs were last told the time */
};

static double max_lag(const struct run *run)
{
    const struct options *o = &run->options;
    if (o->max_lag > 0) return (double)o->max_lag;
    return o->pace || !o->source ? OPTIONS_MAX_LAG : 0; /* a pipe's writer waits, so nothing has to be dropped */
}

static int start(struct run_live *r)
{
    struct run *run = r->run;
    struct audio_in *in = &run->in;
    struct reader *reader = &r->live.reader;
    struct encoder *e = &r->live.encoder;
    int status = SUR_OK;
    e->max_lag = max_lag(run);
    if (!in->device) {
        status = capture_create(&in->capture, in->source.rate, e->max_lag + EXTRA_SECONDS);
        reader->source = &in->source;
        reader->mix = &in->mix;
        reader->frames = in->frames;
        reader->max_frames = in->max_frames;
        reader->n_frames = in->n_frames;
        reader->pace = run->options.pace ? 1 : 0;
        reader->slow_writer = in->slow_writer;
    }
    e->session = run->session;
    e->capture = in->capture;
    e->rate = in->source.rate;
    e->delay_ms = run_delay_ms(run);
    /* On the CPU the encode thread would wait for workers without such a priority, and keep them from the cores. */
    e->realtime = strcmp(sur_model_backend(run->model), "cpu") != 0;
    if (status == SUR_OK) status = live_start(&r->live);
    if (status == SUR_OK && in->device) device_set_wake(in->device, r->live.decode_wake);
    if (status == SUR_OK) return EXIT_DONE;
    message_error("%s", failure_text());
    return EXIT_FAILED;
}

static void report_device(const struct device_event *e)
{
    const char *name = e->info.name;
    switch (e->what) {
    case MIC_SOUND:
        audio_in_report_sound("the microphone ", name, e->info.sound);
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

static int handle_device_events(struct run *run)
{
    const struct audio_in *in = &run->in;
    struct device_event e;
    int status = EXIT_DONE;
    while (status == EXIT_DONE && (e = device_poll(in->device)).what != MIC_NOTHING) {
        bool lost = e.what == MIC_LOST;
        int64_t frames = lost ? capture_clock(in->capture) : capture_back(in->capture);
        struct sink_device device = {
            .name = e.info.name, .lost = lost, .t = sur_scale(frames, SUR_RATE, in->source.rate)};
        report_device(&e);
        if (lost || e.what == MIC_BACK) status = outputs_device(&run->outputs, &device);
    }
    return status;
}

/* The microphone is released while the process is stopped, so that its light goes out. */
static void suspend(struct run *run)
{
    run_overlay_suspend(run);
    device_pause(run->in.device);
    os_signal_sleep();
    device_resume(run->in.device);
    run_overlay_resume(run);
}

static void handle_signals(struct run_live *r)
{
    struct device *device = r->run->in.device;
    if (os_signal_stop() && !r->live.stopping) {
        live_stop_reading(&r->live);
        if (device) device_stop(device);
    }
    if (device && !r->live.stopping && os_signal_suspend()) suspend(r->run);
}

/* The start has the time of the first sample, so it is written once that is known. */
static int write_start(struct run_live *r)
{
    const struct audio_in *in = &r->run->in;
    bool known = !in->device || capture_first_wall(in->capture) != 0;
    if (r->wrote_start || !(known || r->live.stopping)) return EXIT_DONE;
    r->wrote_start = true;
    return run_write_start(r->run);
}

/* rests: the source stood still before the step that returned `state`, so that step was the last of its audio. */
static int write_rest(struct run_live *r, bool rests, int state)
{
    bool now = rests && state == SUR_AGAIN && !r->wrote_rest;
    r->wrote_rest = rests && (r->wrote_rest || state == SUR_AGAIN);
    return now ? outputs_rest(&r->run->outputs) : EXIT_DONE;
}

/* One step or one wait. *state: what the session returned. */
static int turn(struct run_live *r, int *state)
{
    struct run *run = r->run;
    struct live *l = &r->live;
    bool rests = atomic_load(&l->encoder.rests); /* read before the step: see write_rest */
    int status = write_start(r);
    if (status == EXIT_DONE && run->in.device) status = handle_device_events(run);
    audio_in_report_mix(&run->in);
    if (status != EXIT_DONE) return status;
    handle_signals(r);
    *state = live_decode(l);
    status = outputs_events(&run->outputs, run->session);
    if (status != EXIT_DONE) return status;
    if (*state == SUR_OK) live_note_written(l);
    run_overlay_set_state(run, atomic_load(&l->encoder.level), (double)atomic_load(&l->encoder.backlog) / SUR_RATE);
    status = write_rest(r, rests, *state);
    if (status != EXIT_DONE) return status;
    if (*state == SUR_AGAIN) live_wait(l, TICK_NS);
    if (*state != SUR_OK && *state != SUR_AGAIN && *state != SUR_END) {
        message_error("%s", live_error(l));
        return EXIT_FAILED;
    }
    if (sur_clock_ns() - r->ticked_ns < TICK_NS) return EXIT_DONE;
    r->ticked_ns = sur_clock_ns();
    return outputs_tick(&run->outputs);
}

static int report_latency(const struct run_live *r, int64_t lost_frames)
{
    const struct run *run = r->run;
    const struct encoder *e = &r->live.encoder;
    struct sur_session_stats s;
    sur_session_get_stats(run->session, &s);
    bool resampled = e->rate != SUR_RATE;
    struct latency_context c = {.source = run->in.source.name,
                                .backend = sur_model_backend(run->model),
                                .resampler = !resampled            ? "none"
                                             : run->options.source ? "soxr"
                                                                   : "speex",
                                .rate = e->rate,
                                .delay_ms = e->delay_ms,
                                .resampler_ms = resampled ? (double)e->most_in_resampler * 1000 / SUR_RATE : 0,
                                .period_ms = (double)e->longest_block * 1000 / e->rate,
                                .longest_queue_ms = (double)e->lag.longest * 1000 / SUR_RATE,
                                .skipped_ms = (double)s.skipped_samples * 1000 / SUR_RATE,
                                .skips = e->n_lag_skips,
                                .lost_frames = lost_frames};
    if (latency_report(&r->live.latency, &c, run->options.latency_report) == SUR_OK) return EXIT_DONE;
    message_error("%s", failure_text());
    return EXIT_FAILED;
}

int run_live(struct run *run)
{
    static struct run_live r; /* static: 100 KB, and there is one run per process */
    struct audio_in *in = &run->in;
    r.run = run;
    r.ticked_ns = sur_clock_ns();
    int state = SUR_AGAIN, status = start(&r);
    while (status == EXIT_DONE && state != SUR_END && outputs_any(&run->outputs)) status = turn(&r, &state);
    bool ended = device_finish(&in->device); /* first: it wakes this thread by a descriptor that live_finish closes */
    live_finish(&r.live);
    audio_in_report_mix(in);
    int64_t lost = in->capture ? capture_lost(in->capture) : 0;
    if (!ended) in->capture = NULL; /* the device's thread may still use it */
    if (status == EXIT_DONE && run->options.latency_report) status = report_latency(&r, lost);
    if (status == EXIT_DONE && r.live.reader.status < 0)
        status = audio_in_failed(failure(r.live.reader.status, "%s", r.live.reader.error));
    return status;
}
