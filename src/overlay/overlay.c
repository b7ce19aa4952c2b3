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

#include "overlay/filter.h"
#include "overlay/modes.h"
#include "overlay/os_pty.h"
#include "overlay/os_term.h"
#include "overlay/paint.h"
#include "overlay/screen.h"
#include "overlay/vt.h"
#include "sink/captions.h"
#include "util/clock.h"
#include "util/error.h"
#include "util/utf8.h"

enum { KEYS = 65536, READ = 16384, READS_A_TURN = 16, ROWS = 24, COLS = 80 };
#define FRAME_NS   (1000000000LL / 30)
#define RETRY_NS   20000000LL  /* a terminal that has taken a part of a frame is asked again */
#define LOOK_NS    200000000LL /* a shell that gives us the foreground says nothing of it */
#define TROUBLE_NS 20000000000LL

struct overlay {
    struct overlay_options options; /* immutable */
    int wake;                       /* eventfd */
    pthread_t thread;

    pthread_mutex_t lock; /* what other threads leave here */
    pthread_cond_t changed_state;
    struct captions captions;
    struct overlay_state state;
    char trouble[OVERLAY_TROUBLE];
    int64_t trouble_until_ns;
    bool changed, quit, done;
    int status; /* the command's; -1: none yet */

    pthread_mutex_t terminal; /* held while the terminal is written, or given away; taken before `lock` */
    atomic_bool suspended;    /* overlay_suspend gave the terminal away; set under it */
    atomic_bool shown;        /* written under it: the terminal is taken */
    struct output out;        /* under it: the frame that is being written */
    size_t n_written;         /* of it */
    atomic_bool failed;       /* written by the overlay's thread */

    /* the overlay's thread */
    struct layout layout;
    struct screen screen;
    struct vt *vt;
    struct filter filter;
    struct os_pty pty;
    /* what the next frame begins with */
    const char *begin; /* where the terminal has just been taken; NULL: it was before */
    enum { PLACED, PLACE_AGAIN, PLACE_FIRST } place;
    struct modes modes;
    struct vt_cursor cursor; /* as the terminal has it */
    bool dirty, gone, eof;
    int64_t last_frame_ns;
    char keys[KEYS]; /* for the program */
    size_t n_keys;
};

/* ---- what the filter calls ---- */

static void on_mode(void *user, enum input_mode mode, int value)
{
    struct overlay *o = user;
    modes_set(&o->modes, mode, value);
}

static void on_title(void *user, const char *title)
{
    struct overlay *o = user;
    modes_set_title(&o->modes, title);
}

static bool on_join(void *user, uint32_t *code)
{
    struct overlay *o = user;
    return vt_joins(o->vt, code);
}

/* ---- frames ---- */

static bool program(const struct overlay *o)
{
    return o->options.command != NULL;
}

/* What the overlay cannot go on after: the terminal has gone, or there is no memory. */
static void check(struct overlay *o, int status)
{
    if (status == SUR_ERR_MEMORY) o->failed = true;
    if (status != SUR_OK) o->gone = true;
}

static void measure(struct overlay *o)
{
    int rows = ROWS, cols = COLS;
    os_term_size(o->options.out, &rows, &cols);
    layout_make(&o->layout, rows, cols, program(o), o->options.width);
}

/* Before the first frame, and when the terminal's size is new: all is drawn afresh. */
static int resize(struct overlay *o)
{
    measure(o);
    const struct layout *l = &o->layout;
    int status = screen_resize(&o->screen, l->screen_rows, l->cols);
    if (status != SUR_OK) return status;
    if (o->place == PLACED) o->place = PLACE_AGAIN;
    if (o->vt) {
        status = vt_resize(o->vt, l->program_rows > 0 ? l->program_rows : 1, l->cols);
        if (status != SUR_OK) return status;
        vt_draw_all(o->vt);
    }
    if (o->pty.master >= 0) os_pty_resize(&o->pty, l->program_rows > 0 ? l->program_rows : 1, l->cols);
    pthread_mutex_lock(&o->lock);
    captions_resize(&o->captions, l->width, l->caption_rows);
    o->changed = true;
    pthread_mutex_unlock(&o->lock);
    o->dirty = true;
    return SUR_OK;
}

/* Makes room for the screen, which is blank then. */
static void put_place(struct overlay *o)
{
    const struct layout *l = &o->layout;
    bool first = o->place == PLACE_FIRST; /* nothing of ours is there */
    if (o->place == PLACED) return;
    o->place = PLACED;
    if (program(o)) {
        output_printf(&o->out, "\033[2J");
        return;
    }
    /* the cursor stands in our first row, wherever a new size has moved that */
    output_printf(&o->out, first ? "\r" : "\r\033[J");
    for (int i = first ? 0 : 1; i < l->screen_rows; i++) output_append(&o->out, "\n", 1);
    if (first && l->screen_rows) output_printf(&o->out, "\033[%dA\0337", l->screen_rows);
    os_term_note_top(l->top, first);
}

static void put_cursor(struct overlay *o)
{
    static const char *const shapes[] = {[VT_BLOCK] = "12", [VT_UNDERLINE] = "34", [VT_BAR] = "56"};
    if (!program(o)) { /* parked where place() needs it */
        output_printf(&o->out, "\033[%d;1H", o->layout.top + 1);
        return;
    }
    struct vt_cursor c = vt_cursor(o->vt);
    if (c.shape && (c.shape != o->cursor.shape || c.blinks != o->cursor.blinks)) {
        os_term_note_cursor_shape();
        output_printf(&o->out, "\033[%c q", shapes[c.shape][c.blinks ? 0 : 1]);
    }
    output_printf(&o->out, "\033[%d;%dH", c.row + 1, c.col + 1);
    if (c.visible) output_printf(&o->out, "\033[?25h");
    o->cursor = c;
}

static bool cursor_moved(const struct overlay *o)
{
    if (!program(o)) return false;
    struct vt_cursor c = vt_cursor(o->vt);
    const struct vt_cursor *was = &o->cursor;
    return c.row != was->row || c.col != was->col || c.visible != was->visible || c.shape != was->shape ||
           c.blinks != was->blinks;
}

static void paint(struct overlay *o, int64_t now)
{
    pthread_mutex_lock(&o->lock);
    paint_captions(&o->screen, &o->layout, &o->captions);
    paint_state(&o->screen, &o->layout, &o->state, now < o->trouble_until_ns ? o->trouble : "", o->options.colour);
    o->changed = false;
    pthread_mutex_unlock(&o->lock);
    if (o->vt) vt_draw(o->vt, &o->screen);
}

static bool is_writing(const struct overlay *o)
{
    return o->n_written < o->out.n;
}

/* A terminal that takes nothing for now is asked again later: nothing waits for it. */
static void write_rest(struct overlay *o)
{
    if (!is_writing(o)) return;
    ptrdiff_t n = os_term_write(o->out.data + o->n_written, o->out.n - o->n_written);
    if (n < 0) o->gone = true;
    if (n > 0) o->n_written += (size_t)n;
}

/* One write, if the terminal takes it: what a terminal shows half of is never seen. */
static void frame(struct overlay *o, int64_t now)
{
    static const char begin[] = "\033[?2026h\033[?25l";
    struct output *out = &o->out;
    paint(o, now);
    o->dirty = false;
    o->last_frame_ns = now;
    out->n = o->n_written = 0;
    if (o->begin) output_append(out, o->begin, strlen(o->begin));
    output_append(out, begin, sizeof begin - 1);
    put_place(o);
    modes_put(&o->modes, out);
    if (o->vt && vt_bell(o->vt)) output_append(out, "\a", 1);
    bool any = out->n > sizeof begin - 1;
    any = screen_draw(&o->screen, o->layout.top, out) || any || cursor_moved(o);
    o->begin = NULL;
    put_cursor(o);
    output_printf(out, "\033[?2026l");
    check(o, out->no_memory ? SUR_ERR_MEMORY : SUR_OK);
    if (!any) out->n = 0;
    write_rest(o);
}

/* The terminal is given away, or has been taken away. */
static void leave(struct overlay *o)
{
    os_term_restore();
    o->shown = false;
    o->out.n = o->n_written = 0;
}

/* The terminal is taken while it is ours, and what was on it before is not known. */
static void take_terminal(struct overlay *o)
{
    bool ours = !o->suspended && !o->gone && os_term_is_ours();
    if (o->shown && !ours && !o->gone) leave(o);
    if (o->shown || !ours) return;
    o->begin = os_term_enter();
    o->shown = true;
    o->place = PLACE_FIRST;
    o->cursor.shape = 0;
    modes_again(&o->modes);
    check(o, resize(o));
}

static void try_frame(struct overlay *o)
{
    int64_t now = sur_clock_ns();
    pthread_mutex_lock(&o->terminal);
    take_terminal(o);
    write_rest(o);
    pthread_mutex_lock(&o->lock);
    if (captions_tick(&o->captions, now) || o->changed) o->dirty = true;
    if (o->trouble[0] && now >= o->trouble_until_ns) {
        o->trouble[0] = 0;
        o->dirty = true;
    }
    if (o->dirty) pthread_cond_broadcast(&o->changed_state);
    pthread_mutex_unlock(&o->lock);
    bool due = o->begin || now - o->last_frame_ns >= FRAME_NS;
    if (o->dirty && due && o->shown && !o->gone && !is_writing(o)) frame(o, now);
    pthread_mutex_unlock(&o->terminal);
}

/* Milliseconds until something is due by itself; -1: nothing is. */
static int time_left(struct overlay *o)
{
    int64_t now = sur_clock_ns();
    pthread_mutex_lock(&o->lock);
    int64_t due = captions_due_ns(&o->captions);
    if (o->trouble[0] && o->trouble_until_ns < due) due = o->trouble_until_ns;
    if (o->changed) o->dirty = true;
    pthread_mutex_unlock(&o->lock);
    int64_t next = INT64_MAX;
    if (!o->shown)
        next = now + LOOK_NS;
    else if (is_writing(o))
        next = now + RETRY_NS;
    else if (o->dirty)
        next = o->last_frame_ns + FRAME_NS;
    if (next < due) due = next;
    if (due == INT64_MAX || o->suspended) return -1;
    int64_t ms = (due - now + 999999) / 1000000;
    return ms < 0 ? 0 : ms > 60000 ? 60000 : (int)ms;
}

/* ---- the program ---- */

static void type(struct overlay *o, const char *bytes, size_t n)
{
    if (n > sizeof o->keys - o->n_keys) return; /* only answers, which nobody reads */
    memcpy(o->keys + o->n_keys, bytes, n);
    o->n_keys += n;
}

static void send_keys(struct overlay *o)
{
    ssize_t n = o->n_keys ? write(o->pty.master, o->keys, o->n_keys) : 0;
    if (n <= 0) return;
    o->n_keys -= (size_t)n;
    memmove(o->keys, o->keys + n, o->n_keys);
}

static void read_keys(struct overlay *o)
{
    char bytes[4096];
    ssize_t n = read(o->options.in, bytes, sizeof bytes);
    if (n > 0)
        type(o, bytes, (size_t)n);
    else if (n == 0 || (errno != EINTR && errno != EAGAIN && os_term_is_ours())) /* in the background it fails, too */
        o->gone = true;
}

/* Not all at once: a program that never stops writing must not stop frames. */
static void read_program(struct overlay *o)
{
    static char bytes[READ], filtered[FILTER_ROOM(READ)];
    char reply[1024];
    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t n = read(o->pty.master, bytes, sizeof bytes);
        if (n < 0 && errno != EAGAIN && errno != EINTR) o->eof = true; /* nobody has it open */
        if (n <= 0) break;
        check(o, vt_feed(o->vt, filtered, filter_feed(&o->filter, bytes, (size_t)n, filtered)));
        o->dirty = true;
        size_t answered = vt_reply(o->vt, reply, sizeof reply);
        type(o, reply, answered);
    }
}

/* ---- the thread ---- */

static void stop_process(struct overlay *o)
{
    overlay_suspend(o);
    pthread_kill(pthread_self(), SIGSTOP); /* the whole process, before this thread goes on */
    overlay_resume(o);
}

static void take_signals(struct overlay *o, int *status)
{
    unsigned signals = os_term_take_signals();
    if (signals & TERM_STOP) {
        stop_process(o);
        signals = os_term_take_signals() | (signals & TERM_CHILD);
    } else if (signals & TERM_CONTINUED) { /* stopped by others, who may have used the terminal */
        pthread_mutex_lock(&o->terminal);
        leave(o);
        pthread_mutex_unlock(&o->terminal);
    }
    if (signals & TERM_RESIZED) check(o, resize(o));
    if (program(o) && os_pty_ended(&o->pty, status)) o->gone = true;
}

static bool must_end(struct overlay *o)
{
    pthread_mutex_lock(&o->lock);
    bool end = o->quit || o->gone;
    pthread_mutex_unlock(&o->lock);
    return end;
}

static void turn(struct overlay *o, int *status)
{
    struct pollfd fds[4] = {{.fd = o->wake, .events = POLLIN}, {.fd = os_term_fd(), .events = POLLIN}};
    bool reads = program(o) && o->shown;
    fds[2] = (struct pollfd){.fd = reads ? o->options.in : -1};
    if (o->n_keys < sizeof o->keys / 2) fds[2].events = POLLIN;
    fds[3] = (struct pollfd){.fd = program(o) && !o->eof ? o->pty.master : -1, .events = POLLIN};
    if (o->n_keys) fds[3].events |= POLLOUT;
    if (poll(fds, 4, time_left(o)) < 0) return;
    uint64_t count;
    if (fds[0].revents && read(o->wake, &count, sizeof count) < 0) return;
    if (fds[1].revents) take_signals(o, status);
    if (fds[2].revents & (POLLIN | POLLHUP | POLLERR)) read_keys(o);
    if (fds[3].revents & POLLOUT) send_keys(o);
    if (fds[3].revents & (POLLIN | POLLHUP | POLLERR)) read_program(o);
    if (o->n_keys && !o->eof) send_keys(o);
}

static void *run(void *user)
{
    struct overlay *o = user;
    int status = -1;
    while (!must_end(o)) {
        try_frame(o);
        turn(o, &status);
    }
    if (program(o)) os_pty_hang_up(&o->pty);
    pthread_mutex_lock(&o->terminal);
    leave(o);
    os_term_close();
    pthread_mutex_unlock(&o->terminal);
    if (program(o)) os_pty_close(&o->pty, &status);
    pthread_mutex_lock(&o->lock);
    o->done = true;
    o->status = status;
    bool asked = o->quit;
    pthread_cond_broadcast(&o->changed_state);
    pthread_mutex_unlock(&o->lock);
    if (!asked && o->options.ended) o->options.ended();
    return NULL;
}

/* ---- what others call ---- */

static void wake(struct overlay *o)
{
    uint64_t one = 1;
    while (write(o->wake, &one, sizeof one) < 0 && errno == EINTR) continue;
}

/* Signals are the program's other threads' business: their handlers must interrupt what those wait for. */
static int start_thread(struct overlay *o)
{
    sigset_t block, old;
    sigfillset(&block);
    const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&block, faults[i]);
    pthread_sigmask(SIG_SETMASK, &block, &old);
    int error = pthread_create(&o->thread, NULL, run, o);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return error == 0 ? SUR_OK : sur_fail(SUR_ERR_MEMORY, "cannot start a thread: %s", strerror(error));
}

static void free_overlay(struct overlay *o)
{
    vt_destroy(&o->vt);
    screen_finish(&o->screen);
    free(o->out.data);
    if (o->wake >= 0) close(o->wake);
    pthread_mutex_destroy(&o->lock);
    pthread_mutex_destroy(&o->terminal);
    pthread_cond_destroy(&o->changed_state);
    free(o);
}

static int start_program(struct overlay *o, bool *cannot_run)
{
    struct filter_calls calls = {.mode = on_mode, .title = on_title, .joins = on_join, .user = o};
    int rows = o->layout.program_rows > 0 ? o->layout.program_rows : 1;
    int status = vt_create(&o->vt, rows, o->layout.cols);
    if (status != SUR_OK) return status;
    filter_init(&o->filter, &calls);
    status = os_pty_start(&o->pty, o->options.command, rows, o->layout.cols);
    *cannot_run = status == SUR_ERR_IO;
    return status;
}

/* The command is begun before the terminal is taken, so that what cannot be run leaves no trace. */
int overlay_create(struct overlay **out, const struct overlay_options *options, bool *cannot_run)
{
    pthread_condattr_t monotonic;
    struct overlay *o = *out = calloc(1, sizeof *o);
    *cannot_run = false;
    if (!o) return sur_fail(SUR_ERR_MEMORY, "not enough memory for the overlay");
    o->options = *options;
    o->pty.master = o->status = -1;
    o->state.lag_seconds = -1;
    modes_init(&o->modes);
    pthread_mutex_init(&o->lock, NULL);
    pthread_mutex_init(&o->terminal, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&o->changed_state, &monotonic);
    pthread_condattr_destroy(&monotonic);
    captions_init(&o->captions, COLS, CAPTIONS_ROWS);
    o->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int status = o->wake >= 0 ? SUR_OK : sur_fail(SUR_ERR_IO, "no eventfd: %s", strerror(errno)), ended;
    measure(o);
    if (status == SUR_OK) status = os_term_watch();
    if (status == SUR_OK && program(o)) status = start_program(o, cannot_run);
    if (status == SUR_OK) status = os_term_open(options->in, options->out, program(o));
    if (status == SUR_OK) status = resize(o);
    if (status == SUR_OK) status = start_thread(o);
    if (status == SUR_OK) return SUR_OK;
    os_term_close();
    os_pty_close(&o->pty, &ended);
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

void overlay_trouble(struct overlay *o, const char *line, bool lasts)
{
    pthread_mutex_lock(&o->lock);
    sur_utf8_clean(o->trouble, sizeof o->trouble, line, strlen(line));
    o->trouble_until_ns = lasts ? INT64_MAX : sur_clock_ns() + TROUBLE_NS;
    o->changed = true;
    pthread_mutex_unlock(&o->lock);
    wake(o);
}

void overlay_wait(struct overlay *o, bool (*stop)(void))
{
    pthread_mutex_lock(&o->lock);
    while (!o->done && !stop() && (program(o) || o->captions.any)) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += 100000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&o->changed_state, &o->lock, &until);
    }
    pthread_mutex_unlock(&o->lock);
}

void overlay_suspend(struct overlay *o)
{
    pthread_mutex_lock(&o->terminal);
    o->suspended = true;
    leave(o);
    pthread_mutex_unlock(&o->terminal);
}

void overlay_resume(struct overlay *o)
{
    o->suspended = false;
    wake(o);
}

/* ---- the sink ---- */

struct overlay_sink {
    struct sink base;
    struct overlay *overlay;
};

static int on_event(struct sink *sink, const struct sur_event *event)
{
    overlay_event(((struct overlay_sink *)sink)->overlay, event);
    return SUR_OK;
}

static const struct sink_class sink_overlay = {
    .name = "overlay", .size = sizeof(struct overlay_sink), .event = on_event};

int overlay_create_sink(struct sink **sink, struct overlay *o)
{
    struct sink_options none = {0};
    int status = sink_allocate(sink, &sink_overlay, NULL, &none);
    if (status == SUR_OK) ((struct overlay_sink *)*sink)->overlay = o;
    return status;
}
