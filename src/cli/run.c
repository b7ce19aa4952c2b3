#include "cli/run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli/force.h"
#include "cli/message.h"
#include "cli/named_files.h"
#include "cli/os_signal.h"
#include "cli/run_overlay.h"
#include "sink/os_file.h"
#include "util/clock.h"
#include "util/failure.h"

/* What one read of standard input may hold: so much that nothing stays in the source's own buffer when it gives less.
 */
enum { MAX_SAMPLES = 65536, TEXT_WIDTH = 80 };

/* ---- the source ---- */

int run_source_failed(const struct run *run, int status)
{
    if (status == SOURCE_INTERRUPTED) return EXIT_DONE; /* the end was asked for before anything was heard */
    message_error("%s", failure_text());
    return status == SOURCE_USAGE ? EXIT_USAGE : EXIT_FAILED;
}

/* Reads what there is into frames; waits for something. */
static int read_frames(struct run *run)
{
    ptrdiff_t n;
    do {
        n = run->source.read(&run->source, run->frames, run->max_frames);
    } while (n == SOURCE_INTERRUPTED && !os_signal_stop());
    if (n < 0 && !os_signal_stop()) return run_source_failed(run, (int)n);
    run->n_frames = n > 0 ? (size_t)n : 0;
    run->ended = n <= 0;
    if (n > 0 && run->first_wall == 0) run->first_wall = sur_clock_wall_ns();
    /* what comes as time passes becomes mono on its way to the encode thread */
    if (!run->live_input) downmix_run(&run->mix, run->frames, run->n_frames, run->frames);
    return EXIT_DONE;
}

static bool is_stream(const char *path)
{
    struct stat is;
    return strcmp(path, "-") == 0 || (stat(path, &is) == 0 && !S_ISREG(is.st_mode));
}

static int open_microphone(struct run *run)
{
    const struct options *o = &run->options;
    const char *raw = o->pcm ? "--pcm" : o->rate ? "--rate" : o->channels ? "--channels" : o->pace ? "--pace" : NULL;
    if (raw) {
        message_error("%s needs a SOURCE: it says how a FILE or - is read", raw);
        return EXIT_USAGE;
    }
    run->live_input = true;
    os_signal_watch_suspend();
    int status = device_open(&run->device, &run->capture, o->device, o->channel);
    run->ended = status == DEVICE_INTERRUPTED; /* before anything was heard */
    if (run->ended) return EXIT_DONE;
    if (status != MIC_OK) {
        message_error("%s", failure_text());
        return status == MIC_USAGE ? EXIT_USAGE : EXIT_NO_DEVICE;
    }
    const struct mic_info *info = device_info(run->device);
    memcpy(run->source.name, info->name, sizeof run->source.name);
    run->source.rate = info->rate;
    run->source.channels = info->channels;
    message_debug("microphone %s: %d Hz, channels: %d", info->name, info->rate, info->channels);
    return EXIT_DONE;
}

static bool half_contradicts(const struct options *o, const char *name, int half)
{
    static const char *const names[] = {"auto", "cuda", "cpu"};
    if (half == SUR_BACKEND_AUTO || o->backend == SUR_BACKEND_AUTO || half == o->backend) return false;
    message_error("%s %s conflicts with --backend %s: use %s or --backend auto", name, names[half], names[o->backend],
                  names[o->backend]);
    return true;
}

/* The option that means nothing because the half that it is for is to run on the CPU; NULL: none. With auto that is
 * found out when the backend is opened. */
static const char *on_cpu_only(const struct options *o)
{
    bool whole = o->backend == SUR_BACKEND_CPU, encoder = whole || o->encode_on == SUR_BACKEND_CPU;
    whole = encoder && (whole || o->decode_on == SUR_BACKEND_CPU);
    if (o->gemm == SUR_GEMM_LT && whole) return "--gemm lt";
    if (o->window_attention == SUR_ATTENTION_GEMM && encoder) return "--window-attention gemm";
    if (o->vram_limit && whole) return "--vram-limit";
    if (o->gpu >= 0 && whole) return "--gpu";
    return NULL;
}

/* `-` and /dev/stdout are standard output, which an overlay may take. The other two options name a file. */
static int check_outputs(struct options *o, const char *model)
{
    struct os_file file;
    const char *option = o->caption_file && strcmp(o->caption_file, "-") == 0       ? "--caption-file"
                         : o->latency_report && strcmp(o->latency_report, "-") == 0 ? "--latency-report"
                                                                                    : NULL;
    if (option) {
        message_error("%s needs a file name, and - is standard output: use ./- for a file of that name", option);
        return EXIT_USAGE;
    }
    if (o->output &&
        (strcmp(o->output, "-") == 0 || (os_file_find(&file, o->output), file.descriptor) == STDOUT_FILENO))
        o->output = NULL;
    return named_files_check(o, model) == SUR_OK ? EXIT_DONE : EXIT_USAGE;
}

/* What the options say together that each alone may say. */
static int check_usage(struct options *o, const char *model)
{
    const char *cuda_only = on_cpu_only(o);
    if (half_contradicts(o, "--encode-on", o->encode_on) || half_contradicts(o, "--decode-on", o->decode_on))
        return EXIT_USAGE;
    if (cuda_only)
        message_error("%s needs the CUDA backend, and --%s is cpu", cuda_only,
                      o->backend == SUR_BACKEND_CPU     ? "backend"
                      : o->encode_on == SUR_BACKEND_CPU ? "encode-on"
                                                        : "decode-on");
    else
        return check_outputs(o, model);
    return EXIT_USAGE;
}

static void say_line(const char *line)
{
    message_notice(MESSAGE_ANY, "%s", line);
}

int run_open_source(struct run *run)
{
    struct options *o = &run->options;
    struct source_options so = {
        .pcm = (enum source_pcm)o->pcm, .rate = o->rate, .channels = o->channels, .say = say_line};
    if (check_usage(o, run->model_dir) != EXIT_DONE) return EXIT_USAGE;
    if (o->force && force_read(o->force, &run->force, &run->n_force) != SUR_OK) {
        message_error("%s", failure_text());
        return EXIT_FAILED;
    }
    if (!o->source) return open_microphone(run);
    run->waits = is_stream(o->source);
    run->live_input = o->pace || run->waits;
    if (o->device) {
        message_error("--device selects a microphone, and SOURCE is %.100s: give only one of them", o->source);
        return EXIT_USAGE;
    }
    if (o->latency_report && !run->live_input) {
        message_error("--latency-report needs live input: read a FILE with --pace");
        return EXIT_USAGE;
    }
    int status;
    do {
        status = strcmp(o->source, "-") == 0 ? source_stdin_open(&run->source, &so)
                                             : source_file_open(&run->source, o->source, &so);
    } while (status == SOURCE_INTERRUPTED && !os_signal_stop());
    if (status != SOURCE_OK) {
        run->ended = true;
        return run_source_failed(run, status);
    }
    if (o->channel > run->source.channels) {
        message_error("--channel %d: %s has %d channel%s", o->channel, run->source.name, run->source.channels,
                      run->source.channels == 1 ? "" : "s");
        return EXIT_USAGE;
    }
    run->live_input = run->live_input || run->source.grows;
    downmix_init(&run->mix, run->source.rate, run->source.channels, o->channel);
    run->max_frames = MAX_SAMPLES / (size_t)run->source.channels;
    run->frames = malloc(MAX_SAMPLES * sizeof *run->frames);
    if (!run->frames) {
        message_error("not enough memory for samples");
        return EXIT_FAILED;
    }
    return read_frames(run);
}

/* ---- outputs ---- */

static int terminal_columns(int fd)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_col > TEXT_WIDTH) return TEXT_WIDTH;
    return size.ws_col;
}

int run_open_outputs(struct run *run)
{
    const struct options *o = &run->options;
    struct sink_options so = {.width = o->width, .timestamps = o->timestamps};
    so.show_alternatives = o->alternatives >= 0;
    so.cutoff = o->alternatives;
    int checked = run_overlay_check(run), status = SUR_OK;
    if (checked != EXIT_DONE) return checked;
    if (o->caption_file) status = sink_create_caption_file(&run->sinks[RUN_CAPTION_FILE], o->caption_file, &so);
    if (o->caption_file) os_signal_before_exit(sink_caption_file_abandon); /* a caption must not stand for ever */
    if (run->draws && !o->output) run->output.fd = -1;                     /* standard output is the screen */
    if (status == SUR_OK && run->output.fd >= 0) status = output_open(&run->output, o->output);
    if (status == SUR_OK && run->output.fd >= 0 && so.width == 0 && output_is_terminal(&run->output))
        so.width = terminal_columns(run->output.fd);
    if (status == SUR_OK && run->output.fd >= 0)
        status = sink_create(&run->sinks[0], options_formats[o->format], &run->output, &so);
    if (status == SUR_OK) return EXIT_DONE;
    message_error("%s", failure_text());
    return EXIT_FAILED;
}

bool run_any_sink(const struct run *run)
{
    return run->sinks[0] || run->sinks[1] || run->sinks[2];
}

/* What a sink's call returned: its reader may go, and the caption file may fail, which costs the status alone. */
static int after_sink(struct run *run, int i, int status)
{
    if (status == OUTPUT_CLOSED) sink_destroy(&run->sinks[i]);
    if (status >= 0) return EXIT_DONE;
    message_error("%s", failure_text());
    if (i != RUN_CAPTION_FILE) return EXIT_FAILED;
    run->side_failed = true;
    return EXIT_DONE;
}

/* A paced file is spoken from now on. A microphone may have been told to end before its first sample. */
static int64_t first_wall(const struct run *run)
{
    int64_t wall_ns = run->device ? capture_first_wall(run->capture) : run->options.pace ? 0 : run->first_wall;
    return wall_ns ? wall_ns : sur_clock_wall_ns();
}

int run_tell_start(struct run *run)
{
    char wall[64];
    int64_t wall_ns = first_wall(run);
    time_t seconds = (time_t)(wall_ns / 1000000000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t n = strftime(wall, sizeof wall, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(wall + n, sizeof wall - n, ".%03dZ", (int)(wall_ns / 1000000 % 1000));
    struct sink_start start = {.model = run->model_dir, .backend = sur_model_backend(run->model), .wall = wall};
    start.delay_ms = run->options.delay_ms ? run->options.delay_ms : sur_model_delay_ms(run->model);
    start.rate = run->source.rate;
    int status = EXIT_DONE;
    for (int i = 0; i < RUN_SINKS && status == EXIT_DONE; i++)
        if (run->sinks[i]) status = after_sink(run, i, sink_start(run->sinks[i], &start));
    run->told_start = true;
    return status;
}

int run_tell_rest(struct run *run)
{
    int status = EXIT_DONE;
    for (int i = 0; i < RUN_SINKS && status == EXIT_DONE; i++)
        if (run->sinks[i]) status = after_sink(run, i, sink_rest(run->sinks[i]));
    return status;
}

int run_tell_events(struct run *run)
{
    struct sur_event event;
    int status = EXIT_DONE;
    while (status == EXIT_DONE && run_any_sink(run) && sur_session_poll(run->session, &event) == SUR_OK)
        for (int i = 0; i < RUN_SINKS && status == EXIT_DONE; i++)
            if (run->sinks[i]) status = after_sink(run, i, sink_event(run->sinks[i], &event));
    return status;
}

int run_tell_device(struct run *run, const struct sink_device *device)
{
    int status = EXIT_DONE;
    for (int i = 0; i < RUN_SINKS && status == EXIT_DONE; i++)
        if (run->sinks[i]) status = after_sink(run, i, sink_device(run->sinks[i], device));
    return status;
}

int run_tell_time(struct run *run)
{
    int status = EXIT_DONE;
    for (int i = 0; i < RUN_SINKS && status == EXIT_DONE; i++)
        if (run->sinks[i]) status = after_sink(run, i, sink_tick(run->sinks[i], sur_clock_ns()));
    return status;
}

/* ---- the model ---- */

static int from_library(int status)
{
    message_error("%s", sur_error_text());
    switch (status) {
    case SUR_ERR_ARGUMENT:
        return EXIT_USAGE;
    case SUR_ERR_MODEL:
    case SUR_ERR_IO:
        return EXIT_NO_MODEL;
    case SUR_ERR_BACKEND:
        return EXIT_NO_BACKEND;
    default:
        return EXIT_FAILED;
    }
}

int run_open_model(struct run *run)
{
    const struct options *o = &run->options;
    struct sur_model_options mo;
    struct sur_session_options so;
    sur_model_options_init(&mo);
    mo.dir = run->model_dir;
    mo.backend = (enum sur_backend_kind)o->backend;
    mo.kv = (enum sur_kv_type)o->kv;
    mo.encode_on = (enum sur_backend_kind)o->encode_on;
    mo.decode_on = (enum sur_backend_kind)o->decode_on;
    mo.gemm = (enum sur_gemm)o->gemm;
    mo.window_attention = (enum sur_window_attention)o->window_attention;
    mo.vram_limit_mib = o->vram_limit;
    mo.gpu = o->gpu;
    mo.cpu = (enum sur_cpu_level)o->cpu;
    mo.threads = o->threads;
    int64_t began = sur_clock_ns();
    int status = sur_model_open(&run->model, &mo);
    if (status != SUR_OK) return from_library(status);
    sur_session_options_init(&so);
    so.delay_ms = o->delay_ms;
    so.rate = run->source.rate;
    so.channels = 1;
    so.format = SUR_F32LE;
    so.mode = run->live_input ? SUR_LIVE : SUR_WHOLE;
    so.resampler = run->device ? SUR_RESAMPLE_SPEEX : SUR_RESAMPLE_SOXR;
    so.force = run->force;
    so.n_force = run->n_force;
    status = sur_session_create(&run->session, run->model, &so);
    run->load_ns = sur_clock_ns() - began;
    return status == SUR_OK ? EXIT_DONE : from_library(status);
}

/* ---- captions ---- */

static void tell_level(struct run *run)
{
    run_overlay_tell(run, run_overlay_level(run->frames, run->n_frames), -1);
}

enum message_topic run_sound_topic(enum downmix_event event)
{
    return event == DOWNMIX_ZEROS ? MESSAGE_ZEROS : event == DOWNMIX_QUIET ? MESSAGE_QUIET : MESSAGE_ANY;
}

void run_tell_channels(struct run *run)
{
    enum downmix_event event;
    while ((event = downmix_poll(&run->mix)) != DOWNMIX_NOTHING)
        message_notice(run_sound_topic(event), "%s %s", run->source.name, downmix_text(event));
}

/* The next samples of a file, while there are any and no signal came; then the session is told that none follow. */
static int next_block(struct run *run)
{
    int input = EXIT_DONE;
    if (os_signal_stop() || run->ended)
        run->n_frames = 0;
    else
        input = read_frames(run);
    if (input != EXIT_DONE) run->n_frames = 0;
    run->ended = run->n_frames == 0;
    if (run->ended) {
        sur_session_finish(run->session);
        if (!os_signal_stop()) downmix_end(&run->mix); /* else it may only be silent so far */
    }
    tell_level(run);
    run_tell_channels(run);
    return input;
}

/* A file as fast as the machine can, in one thread. With a GPU the session is fed as far ahead as it takes, so that
 * there is something to do beside a step; without, that would only leave more to finish after a signal. What was heard
 * before the input failed is not lost. */
static int caption_whole(struct run *run)
{
    const bool ahead = strcmp(sur_model_backend(run->model), "cpu") != 0;
    int input = EXIT_DONE, state = SUR_AGAIN, idle = 0;
    size_t fed = 0;
    bool finished = false;
    tell_level(run);
    while (state != SUR_END && run_any_sink(run)) {
        size_t took = 0;
        if (ahead || state == SUR_AGAIN) {
            if (fed == run->n_frames && !finished) {
                input = next_block(run);
                finished = run->ended;
                fed = 0;
            }
            took = sur_session_feed(run->session, run->frames + fed, run->n_frames - fed);
            fed += took;
        }
        state = sur_session_run(run->session);
        int status = run_tell_events(run);
        if (status == EXIT_DONE) status = run_tell_time(run);
        if (status != EXIT_DONE) return status;
        idle = state == SUR_AGAIN && took == 0 ? idle + 1 : 0;
        if (state == SUR_OK || state == SUR_END || (state == SUR_AGAIN && idle < 2)) continue;
        message_error("%s", state == SUR_AGAIN ? "internal error: the session makes no progress" : sur_error_text());
        return EXIT_FAILED;
    }
    return input;
}

int run_captions(struct run *run)
{
    run->start_ns = sur_clock_ns();
    if (run->live_input) return run_live(run);
    int status = run_tell_start(run);
    return status == EXIT_DONE ? caption_whole(run) : status;
}

int run_finish(struct run *run)
{
    for (int i = 0; i < RUN_SINKS; i++) sink_destroy(&run->sinks[i]);
    int status = output_close(&run->output);
    if (status != SUR_OK) message_error("%s", failure_text());
    bool ended = device_finish(&run->device);
    live_finish(&run->live);
    if (ended) capture_destroy(&run->capture);
    sur_session_destroy(&run->session);
    sur_model_close(&run->model);
    if (run->source.close) run->source.close(&run->source);
    free(run->frames);
    free(run->force);
    if (run->side_failed && !run->options.command) return EXIT_FAILED; /* a command's status is its own */
    return status == SUR_OK ? EXIT_DONE : EXIT_FAILED;
}
