#include "overlay/overlay.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "overlay/display.h"
#include "overlay/os_pty.h"
#include "overlay/os_term.h"
#include "overlay/program.h"
#include "sink/captions.h"
#include "util/clock.h"
#include "util/failure.h"
#include "util/os_thread.h"
#include "util/utf8.h"

enum { FIRST_WIDTH = 80 /* of captions, until the terminal's size is known */ };
#define PROBLEM_NS 20000000000LL

struct overlay {
    struct overlay_options options; /* immutable */
    int wake;                       /* eventfd */
    pthread_t thread;

    pthread_mutex_t lock; /* what other threads hand over to the overlay's thread */
    pthread_cond_t progress;
    struct captions captions;
    struct overlay_state state;
    char problem[OVERLAY_PROBLEM_BYTES];
    int64_t problem_until_ns;
    bool changed, quit, done;
    int status; /* the command's; -1: none yet */

    pthread_mutex_t terminal; /* held while the terminal is written or given back; locked before `lock` */
    atomic_bool suspended;    /* overlay_suspend gave the terminal back; written under `terminal` */
    struct display display;
    atomic_bool failed; /* written by the overlay's thread */

    /* the overlay's thread */
    struct program program;
    bool changed_cells; /* something is to be drawn */
    bool gone;          /* the program, the terminal or the keyboard has gone: the thread ends */
};

static bool has_program(const struct overlay *o)
{
    return o->options.command != NULL;
}

/* ---- frames ---- */

/* Ends the overlay after a failure. */
static void check(struct overlay *o, int status)
{
    if (status == SUR_ERR_MEMORY) o->failed = true;
    if (status != SUR_OK) o->gone = true;
}

/* Fits everything to the terminal's size: before the first frame, and whenever the size changes. */
static int resize(struct overlay *o)
{
    int status = display_resize(&o->display);
    if (status != SUR_OK) return status;
    pthread_mutex_lock(&o->lock);
    captions_resize(&o->captions, o->display.layout.width, o->display.layout.caption_rows);
    pthread_mutex_unlock(&o->lock);
    o->changed_cells = true;
    return SUR_OK;
}

/* Takes the terminal when the process comes to the foreground, and releases it when the process leaves it. */
static void follow_foreground(struct overlay *o)
{
    bool ours = !o->suspended && !o->gone && os_term_is_ours();
    if (o->display.taken && !ours && !o->gone) display_release(&o->display);
    if (o->display.taken || !ours) return;
    display_take(&o->display);
    check(o, resize(o));
}

static void try_frame(struct overlay *o)
{
    int64_t now = sur_clock_ns();
    pthread_mutex_lock(&o->terminal);
    follow_foreground(o);
    check(o, display_write(&o->display));
    pthread_mutex_lock(&o->lock);
    if (captions_tick(&o->captions, now) || o->changed) o->changed_cells = true;
    if (o->problem[0] && now >= o->problem_until_ns) {
        o->problem[0] = 0;
        o->changed_cells = true;
    }
    if (o->changed_cells) pthread_cond_broadcast(&o->progress);
    bool draws = o->changed_cells && !o->gone && display_may_draw(&o->display, now);
    if (draws) {
        display_paint(&o->display, &o->captions, &o->state, o->problem);
        o->changed = o->changed_cells = false;
    }
    pthread_mutex_unlock(&o->lock);
    if (draws) check(o, display_draw(&o->display, now));
    pthread_mutex_unlock(&o->terminal);
}

/* Milliseconds until something is due without an event; -1: nothing is. */
static int poll_timeout(struct overlay *o)
{
    int64_t now = sur_clock_ns();
    pthread_mutex_lock(&o->terminal);
    pthread_mutex_lock(&o->lock);
    if (o->changed) o->changed_cells = true;
    int64_t due = captions_due_ns(&o->captions), next = display_due_ns(&o->display, o->changed_cells, now);
    if (o->problem[0] && o->problem_until_ns < due) due = o->problem_until_ns;
    pthread_mutex_unlock(&o->lock);
    pthread_mutex_unlock(&o->terminal);
    if (next < due) due = next;
    if (due == INT64_MAX || o->suspended) return -1;
    int64_t ms = (due - now + 999999) / 1000000;
    return ms < 0 ? 0 : ms > 60000 ? 60000 : (int)ms;
}

/* ---- the thread ---- */

static void read_keys(struct overlay *o)
{
    char bytes[4096];
    ssize_t n = read(o->options.in, bytes, sizeof bytes);
    if (n > 0)
        program_add_input(&o->program, bytes, (size_t)n);
    else if (n == 0 || (errno != EINTR && errno != EAGAIN && os_term_is_ours())) /* in the background read fails, too */
        o->gone = true;
}

static void stop_process(struct overlay *o)
{
    overlay_suspend(o);
    pthread_kill(pthread_self(), SIGSTOP); /* stops the whole process before this thread continues */
    overlay_resume(o);
}

static void handle_signals(struct overlay *o, int *status)
{
    unsigned signals = os_term_take_signals();
    if (signals & TERM_STOP) {
        stop_process(o);
        signals = os_term_take_signals() | (signals & TERM_CHILD);
    } else if (signals & TERM_CONTINUED) { /* another process stopped this one, and may have used the terminal since */
        pthread_mutex_lock(&o->terminal);
        display_release(&o->display);
        pthread_mutex_unlock(&o->terminal);
    }
    if (signals & TERM_RESIZED) check(o, resize(o));
    if (has_program(o) && os_pty_ended(&o->program.pty, status)) o->gone = true;
}

static bool must_end(struct overlay *o)
{
    pthread_mutex_lock(&o->lock);
    bool end = o->quit || o->gone;
    pthread_mutex_unlock(&o->lock);
    return end;
}

static void wait_and_handle(struct overlay *o, int *status)
{
    enum { WAKE, SIGNALS, KEYBOARD, PTY, N };
    const short readable = POLLIN | POLLHUP | POLLERR;
    struct program *p = &o->program;
    struct pollfd fds[N] = {[WAKE] = {.fd = o->wake, .events = POLLIN},
                            [SIGNALS] = {.fd = os_term_fd(), .events = POLLIN},
                            [KEYBOARD] = {.fd = has_program(o) && o->display.taken ? o->options.in : -1},
                            [PTY] = {.fd = has_program(o) && !p->output_ended ? p->pty.master : -1, .events = POLLIN}};
    if (program_takes_keys(p)) fds[KEYBOARD].events = POLLIN;
    if (p->n_input) fds[PTY].events |= POLLOUT;
    if (poll(fds, N, poll_timeout(o)) < 0) return;
    uint64_t count;
    if (fds[WAKE].revents && read(o->wake, &count, sizeof count) < 0) return;
    if (fds[SIGNALS].revents) handle_signals(o, status);
    if (fds[KEYBOARD].revents & readable) read_keys(o);
    if (fds[PTY].revents & POLLOUT) program_send_input(p);
    if (fds[PTY].revents & readable) {
        check(o, program_read_output(p));
        o->changed_cells = true;
    }
    if (p->n_input && !p->output_ended) program_send_input(p);
}

static void *run(void *user)
{
    struct overlay *o = user;
    int status = -1;
    while (!must_end(o)) {
        try_frame(o);
        wait_and_handle(o, &status);
    }
    if (has_program(o)) os_pty_hang_up(&o->program.pty);
    pthread_mutex_lock(&o->terminal);
    display_release(&o->display);
    os_term_close();
    pthread_mutex_unlock(&o->terminal);
    if (has_program(o)) os_pty_close(&o->program.pty, &status);
    pthread_mutex_lock(&o->lock);
    o->done = true;
    o->status = status;
    bool quit = o->quit;
    pthread_cond_broadcast(&o->progress);
    pthread_mutex_unlock(&o->lock);
    if (!quit && o->options.ended) o->options.ended();
    return NULL;
}

/* ---- creation ---- */

static void wake(struct overlay *o)
{
    uint64_t one = 1;
    while (write(o->wake, &one, sizeof one) < 0 && errno == EINTR) continue;
}

static int start_thread(struct overlay *o)
{
    int error = sur_thread_start(&o->thread, run, o);
    return error == 0 ? SUR_OK : failure(SUR_ERR_MEMORY, "cannot start a thread: %s", strerror(error));
}

static void free_overlay(struct overlay *o)
{
    program_finish(&o->program);
    display_finish(&o->display);
    if (o->wake >= 0) close(o->wake);
    pthread_mutex_destroy(&o->lock);
    pthread_mutex_destroy(&o->terminal);
    pthread_cond_destroy(&o->progress);
    free(o);
}

static void init(struct overlay *o, const struct overlay_options *options)
{
    pthread_condattr_t monotonic;
    o->options = *options;
    o->status = -1;
    o->state.lag_seconds = -1;
    o->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&o->lock, NULL);
    pthread_mutex_init(&o->terminal, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&o->progress, &monotonic);
    pthread_condattr_destroy(&monotonic);
    captions_init(&o->captions, FIRST_WIDTH, CAPTIONS_ROWS);
    program_init(&o->program);
    display_init(&o->display, options->out, options->width, options->colour, has_program(o) ? &o->program : NULL);
}

/* The command starts before the terminal is taken, so that a command that cannot be run leaves no trace on it. */
int overlay_create(struct overlay **out, const struct overlay_options *options, bool *cannot_run)
{
    struct overlay *o = *out = calloc(1, sizeof *o);
    int ended;
    *cannot_run = false;
    if (!o) return failure(SUR_ERR_MEMORY, "not enough memory for the overlay");
    init(o, options);
    const struct layout *l = &o->display.layout;
    int status = o->wake >= 0 ? SUR_OK : failure(SUR_ERR_IO, "cannot create an eventfd: %s", strerror(errno));
    if (status == SUR_OK) status = os_term_watch();
    if (status == SUR_OK && has_program(o))
        status = program_start(&o->program, options->command, l->program_rows, l->cols, cannot_run);
    if (status == SUR_OK) status = os_term_open(options->in, options->out, has_program(o));
    if (status == SUR_OK) status = resize(o);
    if (status == SUR_OK) status = start_thread(o);
    if (status == SUR_OK) return SUR_OK;
    os_term_close();
    os_pty_close(&o->program.pty, &ended);
    free_overlay(o);
    *out = NULL;
    return status;
}

int overlay_destroy(struct overlay **out)
{
    struct overlay *o = *out;
    if (!o) return -1;
    pthread_mutex_lock(&o->lock);
    o->quit = true;
    pthread_mutex_unlock(&o->lock);
    wake(o);
    pthread_join(o->thread, NULL);
    int status = o->status;
    free_overlay(o);
    *out = NULL;
    return status;
}

/* ---- the calls of other threads ---- */

bool overlay_failed(const struct overlay *o)
{
    return o->failed;
}

void overlay_event(struct overlay *o, const struct sur_event *event)
{
    pthread_mutex_lock(&o->lock);
    bool changed = captions_event(&o->captions, event, sur_clock_ns());
    o->changed = o->changed || changed;
    pthread_mutex_unlock(&o->lock);
    if (changed) wake(o);
}

void overlay_set_state(struct overlay *o, const struct overlay_state *state)
{
    pthread_mutex_lock(&o->lock);
    o->state = *state;
    o->changed = true;
    pthread_mutex_unlock(&o->lock);
    wake(o);
}

void overlay_set_problem(struct overlay *o, const char *line, bool lasts)
{
    pthread_mutex_lock(&o->lock);
    sur_utf8_clean(o->problem, sizeof o->problem, line, strlen(line));
    o->problem_until_ns = lasts ? INT64_MAX : sur_clock_ns() + PROBLEM_NS;
    o->changed = true;
    pthread_mutex_unlock(&o->lock);
    wake(o);
}

void overlay_wait(struct overlay *o, bool (*stop)(void))
{
    pthread_mutex_lock(&o->lock);
    while (!o->done && !stop() && (has_program(o) || o->captions.any)) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&o->progress, &o->lock, &until);
    }
    pthread_mutex_unlock(&o->lock);
}

void overlay_suspend(struct overlay *o)
{
    pthread_mutex_lock(&o->terminal);
    o->suspended = true;
    display_release(&o->display);
    pthread_mutex_unlock(&o->terminal);
}

void overlay_resume(struct overlay *o)
{
    o->suspended = false;
    wake(o);
}
