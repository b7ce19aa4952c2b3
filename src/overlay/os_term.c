#include "overlay/os_term.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "surtitle.h"
#include "util/clock.h"
#include "util/failure.h"

enum { STUCK_MS = 1000 };
#define STUCK_NS (STUCK_MS * 1000000LL)

/* Read by signal handlers: fields that are not atomic are written only while `taken` is 0. */
static struct {
    int in, out; /* immutable while open */
    int own;     /* `out` opened again, non-blocking; -1: not possible */
    bool whole, has_attributes;
    struct termios attributes; /* before the terminal was taken */
    atomic_int taken;
    atomic_bool lost;
    atomic_bool mode[MODES], shape, title, saved;
    atomic_int top;
    atomic_uint signals;
    int pipe[2];
} term = {.in = -1, .out = -1, .own = -1, .pipe = {-1, -1}};

static const char *const modes_off[MODES] = {
    [MODE_CURSOR_KEYS] = "\033[?1l",   [MODE_KEYPAD] = "\033>",           [MODE_MOUSE_CLICK] = "\033[?1000l",
    [MODE_MOUSE_DRAG] = "\033[?1002l", [MODE_MOUSE_MOVE] = "\033[?1003l", [MODE_FOCUS] = "\033[?1004l",
    [MODE_MOUSE_SGR] = "\033[?1006l",  [MODE_PASTE] = "\033[?2004l",      [MODE_MODIFY_KEYS] = "\033[>4m",
};

/* ---- restoring: async-signal-safe ---- */

struct bytes {
    char data[256];
    size_t n;
};

static void add(struct bytes *b, const char *text)
{
    size_t n = strlen(text);
    if (n > sizeof b->data - b->n) return;
    memcpy(b->data + b->n, text, n);
    b->n += n;
}

static void add_row(struct bytes *b, int row)
{
    char digits[8] = "";
    int at = sizeof digits - 1;
    for (int value = row + 1; value > 0 && at > 0; value /= 10) digits[--at] = (char)('0' + value % 10);
    add(b, "\033[");
    add(b, digits + at);
    add(b, ";1H\033[J");
}

bool os_term_is_ours(void)
{
    pid_t foreground = tcgetpgrp(term.out);
    return foreground < 0 || foreground == getpgrp();
}

/* Resumes output after Ctrl-S. TCOON alone has no effect then: it undoes a TCOOFF, and Ctrl-S with it. */
static void resume_output(void)
{
    tcflow(term.out, TCOOFF);
    tcflow(term.out, TCOON);
}

/* `out` is not made non-blocking, because that would affect other programs that share it. Without a descriptor of our
 * own, bytes are written one by one: a terminal that is ready accepts at least one. */
ptrdiff_t os_term_write(const char *bytes, size_t n)
{
    size_t done = 0;
    while (done < n) {
        struct pollfd p = {.fd = term.out, .events = POLLOUT};
        if (term.own < 0 && poll(&p, 1, 0) != 1) break;
        ssize_t wrote = write(term.own < 0 ? term.out : term.own, bytes + done, term.own < 0 ? 1 : n - done);
        if (wrote > 0) done += (size_t)wrote;
        if (wrote == 0 || (wrote < 0 && errno == EAGAIN)) break;
        if (wrote < 0 && errno != EINTR) return -1;
    }
    return (ptrdiff_t)done;
}

/* Gives up after STUCK_MS if the terminal accepts no data. */
static void write_last(const char *bytes, size_t n)
{
    const int64_t end = sur_clock_ns() + STUCK_NS;
    for (;;) {
        ptrdiff_t wrote = os_term_write(bytes, n);
        if (wrote < 0) return;
        bytes += wrote;
        n -= (size_t)wrote;
        if (n == 0) return;
        if (sur_clock_ns() >= end) break;
        sur_clock_sleep_until(sur_clock_ns() + STUCK_NS / 50);
    }
    atomic_store(&term.lost, true);
}

void os_term_restore(void)
{
    int error = errno;
    struct bytes b = {.n = 0};
    if (!atomic_exchange(&term.taken, 0)) return;
    add(&b, "\033[?2026l\033[0m");
    for (int m = 0; m < MODES; m++)
        if (atomic_load(&term.mode[m])) add(&b, modes_off[m]);
    if (atomic_load(&term.shape)) add(&b, "\033[0 q");
    if (atomic_load(&term.title)) add(&b, "\033[23;0t");
    add(&b, "\033[?7h");
    if (term.whole)
        add(&b, "\033[?1049l");
    else if (atomic_load(&term.top) >= 0)
        add_row(&b, atomic_load(&term.top));
    if (!term.whole && atomic_load(&term.saved)) add(&b, "\0338");
    add(&b, "\033[?25h");
    if (os_term_is_ours()) {
        resume_output();
        /* TCSANOW, because a terminal that accepts no data never drains */
        if (term.has_attributes) tcsetattr(term.in, TCSANOW, &term.attributes);
        write_last(b.data, b.n);
    }
    errno = error;
}

bool os_term_is_lost(void)
{
    return atomic_load(&term.lost);
}

/* ---- signals ---- */

static void note(unsigned bit)
{
    int error = errno;
    atomic_fetch_or(&term.signals, bit);
    if (write(term.pipe[1], "", 1) < 0) errno = error; /* a full pipe is readable as well */
    errno = error;
}

static void on_note(int signal)
{
    note(signal == SIGWINCH  ? TERM_RESIZED
         : signal == SIGTSTP ? TERM_STOP
         : signal == SIGCONT ? TERM_CONTINUED
                             : TERM_CHILD);
}

/* SA_RESETHAND has restored the default action. */
static void on_end(int signal)
{
    os_term_restore();
    raise(signal);
}

static void handle(int signal, void (*handler)(int), int flags, bool always)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags}, old;
    sigemptyset(&action.sa_mask);
    if (!always && (sigaction(signal, NULL, &old) != 0 || old.sa_handler != SIG_DFL)) return;
    sigaction(signal, &action, NULL);
}

static void install(void)
{
    static const int ends[] = {SIGSEGV, SIGABRT, SIGBUS,  SIGILL,    SIGFPE,  SIGSYS,  SIGTRAP, SIGQUIT, SIGUSR1,
                               SIGUSR2, SIGXCPU, SIGXFSZ, SIGVTALRM, SIGPROF, SIGTERM, SIGINT,  SIGHUP};
    handle(SIGWINCH, on_note, SA_RESTART, true);
    handle(SIGCHLD, on_note, SA_RESTART | SA_NOCLDSTOP,
           true); /* if it was inherited as ignored, the child's status would be lost */
    handle(SIGTSTP, on_note, SA_RESTART, false);
    handle(SIGCONT, on_note, SA_RESTART, false);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        handle(ends[i], on_end, (int)SA_RESETHAND | SA_NODEFER, false);
}

unsigned os_term_take_signals(void)
{
    char drain[64];
    while (read(term.pipe[0], drain, sizeof drain) > 0) continue;
    return atomic_exchange(&term.signals, 0);
}

int os_term_fd(void)
{
    return term.pipe[0];
}

/* ---- taking ---- */

static void forget(void)
{
    for (int m = 0; m < MODES; m++) atomic_store(&term.mode[m], false);
    atomic_store(&term.shape, false);
    atomic_store(&term.title, false);
    os_term_note_top(-1, false);
}

const char *os_term_enter(void)
{
    forget();
    term.has_attributes = term.in >= 0 && tcgetattr(term.in, &term.attributes) == 0;
    atomic_store(&term.taken, 1); /* before anything changes, so that a signal handler undoes it */
    if (term.has_attributes) {
        struct termios ours = term.attributes;
        if (term.whole) {
            cfmakeraw(&ours);
            ours.c_cc[VMIN] = 1;
            ours.c_cc[VTIME] = 0;
        } else {
            ours.c_lflag &= ~(tcflag_t)ECHO;
        }
        while (tcsetattr(term.in, TCSANOW, &ours) != 0 && errno == EINTR) continue;
    }
    return term.whole ? "\033[?1049h\033[2J\033[?7l" : "\033[?25l\033[?7l";
}

int os_term_watch(void)
{
    if (term.pipe[0] < 0 && pipe2(term.pipe, O_CLOEXEC | O_NONBLOCK) < 0)
        return failure(SUR_ERR_IO, "cannot watch the terminal: %s", strerror(errno));
    install();
    return SUR_OK;
}

int os_term_open(int in, int out, bool whole)
{
    static bool registered;
    char path[32];
    struct termios as_is;
    term.in = in;
    term.out = out;
    term.whole = whole;
    atomic_store(&term.lost, false);
    snprintf(path, sizeof path, "/proc/self/fd/%d", out);
    term.own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (!registered && atexit(os_term_restore) == 0) registered = true;
    /* changes nothing, but stops a background process, unless SIGTTOU is ignored */
    if (tcgetattr(out, &as_is) == 0) tcsetattr(out, TCSANOW, &as_is);
    return SUR_OK;
}

void os_term_close(void)
{
    os_term_restore();
    if (term.own >= 0) close(term.own);
    term.own = -1;
}

bool os_term_size(int fd, int *rows, int *cols)
{
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) return false;
    *rows = size.ws_row;
    *cols = size.ws_col;
    return true;
}

void os_term_note_mode(enum input_mode mode, bool on)
{
    atomic_store(&term.mode[mode], on);
}

void os_term_note_cursor_shape(void)
{
    atomic_store(&term.shape, true);
}

void os_term_note_title(void)
{
    atomic_store(&term.title, true);
}

void os_term_note_top(int row, bool saved)
{
    atomic_store(&term.top, row);
    atomic_store(&term.saved, saved);
}
