#include "cli/run_overlay.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/exit_status.h"
#include "cli/lag.h"
#include "cli/message.h"
#include "cli/os_signal.h"
#include "cli/os_stderr.h"
#include "overlay/os_term.h"
#include "overlay/overlay.h"
#include "util/failure.h"

enum { KEPT_BYTES = 65536 };
static const float QUIET_LEVEL = 0.001f; /* -60 dBFS */

/* Messages of the time in which the terminal is drawn on, to be printed afterwards. take_line, under the lock of
 * message.c; the main thread once the messages are no longer diverted. */
static struct output kept = {.fd = -1, .name = "standard error"};
static char last_problem[256]; /* by the same rules */
/* The topic of the line that the overlay shows. The lock also covers showing and removing that line, which different
 * threads do. */
static struct {
    pthread_mutex_t lock;
    enum message_topic topic;
} shown = {.lock = PTHREAD_MUTEX_INITIALIZER};
static int keyboard = -1; /* /dev/tty, if it was opened */

static bool has_value(const char *name)
{
    const char *value = getenv(name);
    return value && *value;
}

int run_overlay_check(struct run *run)
{
    const struct options *o = &run->options;
    const char *term = getenv("TERM");
    if (!o->overlay && !o->command) return EXIT_DONE;
    bool can = isatty(os_stdout_fd()) == 1 && term && *term && strcmp(term, "dumb") != 0;
    if (o->command && !can) {
        message_error("-- CMD needs a terminal on standard output, and its type in TERM");
        return EXIT_FAILED;
    }
    run->drawn = can && (o->command || !has_value("NO_COLOR"));
    if (run->drawn && !o->output && o->format != 0) {
        message_error("captions are drawn on standard output; --format %s needs --output FILE",
                      options_formats[o->format]);
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

/* A line with a topic is shown until its condition is over, any other line for a while. */
static void show(struct overlay *overlay, enum message_topic topic, const char *text)
{
    pthread_mutex_lock(&shown.lock);
    shown.topic = topic;
    overlay_set_problem(overlay, text, topic != MESSAGE_ANY);
    pthread_mutex_unlock(&shown.lock);
}

static void remove_if_over(struct overlay *overlay, const struct overlay_state *now)
{
    pthread_mutex_lock(&shown.lock);
    bool over = (shown.topic == MESSAGE_LAG && now->lag_seconds * SUR_RATE < LAG_KEPT_SAMPLES) ||
                (shown.topic == MESSAGE_ZEROS && now->level > 0) ||
                (shown.topic == MESSAGE_QUIET && now->level > QUIET_LEVEL);
    if (over) overlay_set_problem(overlay, "", false);
    if (over) shown.topic = MESSAGE_ANY;
    pthread_mutex_unlock(&shown.lock);
}

static bool take_line(void *user, const struct message_line *line)
{
    static const char prefix[] = "surtitle: ";
    if (line->level <= SUR_LOG_WARN && !line->figure) {
        const char *text = line->text + sizeof prefix - 1;
        snprintf(last_problem, sizeof last_problem, "%s", text);
        show(user, line->topic, text);
    }
    if (isatty(os_stderr_fd()) != 1) return false;
    if (line->printed && kept.n < KEPT_BYTES) output_printf(&kept, "%s\n", line->text);
    return true;
}

/* If standard input holds samples, the keyboard is the controlling terminal. */
static int find_keyboard(const struct run *run)
{
    bool samples = run->options.source && strcmp(run->options.source, "-") == 0;
    if (!samples && isatty(STDIN_FILENO) == 1) return STDIN_FILENO;
    keyboard = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    return keyboard;
}

void run_overlay_set_state(struct run *run, float level, double lag_seconds)
{
    struct overlay_state state = {.level = level, .lag_seconds = (float)lag_seconds};
    if (!run->overlay) return;
    const char *slash = strrchr(run->in.source.name, '/');
    snprintf(state.name, sizeof state.name, "%s", slash && slash[1] ? slash + 1 : run->in.source.name);
    overlay_set_state(run->overlay, &state);
    remove_if_over(run->overlay, &state);
}

int run_overlay_open(struct run *run)
{
    if (!run->drawn) return EXIT_DONE;
    struct overlay_options oo = {.in = find_keyboard(run), .out = os_stdout_fd(), .ended = os_signal_request_stop};
    bool cannot_run;
    oo.width = run->options.width;
    oo.colour = !has_value("NO_COLOR");
    oo.command = run->options.command;
    os_signal_before_exit(os_term_restore);
    int status = overlay_create(&run->overlay, &oo, &cannot_run);
    if (status == SUR_OK) status = overlay_create_sink(&run->outputs.sinks[OUTPUTS_OVERLAY], run->overlay);
    if (status != SUR_OK) {
        overlay_destroy(&run->overlay);
        message_error("%s", failure_text());
        return cannot_run ? EXIT_CANNOT_RUN : EXIT_FAILED;
    }
    message_divert(take_line, run->overlay);
    run_overlay_set_state(run, 0, -1);
    return EXIT_DONE;
}

void run_overlay_suspend(struct run *run)
{
    if (run->overlay) overlay_suspend(run->overlay);
}

void run_overlay_resume(struct run *run)
{
    if (run->overlay) overlay_resume(run->overlay);
}

int run_overlay_close(struct run *run, int status)
{
    if (!run->overlay) return status;
    struct overlay_state over = {.name = "captions have ended", .lag_seconds = -1};
    overlay_set_state(run->overlay, &over);
    if (status != EXIT_DONE)
        overlay_set_problem(run->overlay, last_problem, true); /* why, as long as the command runs */
    if (run->options.command || status == EXIT_DONE) overlay_wait(run->overlay, os_signal_stop);
    sink_destroy(&run->outputs.sinks[OUTPUTS_OVERLAY]);
    message_divert(NULL, NULL);
    bool failed = overlay_failed(run->overlay);
    int commands = overlay_destroy(&run->overlay);
    if (keyboard >= 0) close(keyboard);
    if (kept.n) os_stderr_write(kept.data, kept.n);
    output_close(&kept);
    if (failed) message_error("not enough memory for the overlay");
    if (os_term_is_lost()) {
        message_error("the terminal accepts no output: it could not be restored");
        failed = true;
    }
    return run->options.command ? commands : failed ? EXIT_FAILED : status;
}
