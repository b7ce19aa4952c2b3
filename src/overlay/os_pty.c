#include "overlay/os_pty.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "surtitle.h"
#include "util/clock.h"
#include "util/failure.h"

enum { HANG_UP_NS = 2000000000, LOOK_NS = 20000000, CANNOT_RUN = 127 };

/* Returns the environment with the new TERM and without the size of the real terminal. The caller frees the array only.
 */
static char **make_environment(void)
{
    static char term[] = "TERM=xterm-256color";
    size_t n = 0, used = 0;
    while (environ[n]) n++;
    char **e = calloc(n + 2, sizeof *e);
    if (!e) return NULL;
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], "TERM=", 5) != 0 && strncmp(environ[i], "LINES=", 6) != 0 &&
            strncmp(environ[i], "COLUMNS=", 8) != 0 && strncmp(environ[i], "TERMCAP=", 8) != 0)
            e[used++] = environ[i];
    e[used] = term;
    return e;
}

/* Runs in the child of a process with several threads: only async-signal-safe calls are allowed. */
static void exec_command(int slave, int report, char *const *command, char *const *environment)
{
    struct sigaction normal = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int s = 1; s < NSIG; s++) sigaction(s, &normal, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setsid();
    ioctl(slave, TIOCSCTTY, 0);
    if (dup2(slave, 0) >= 0 && dup2(slave, 1) >= 0 && dup2(slave, 2) >= 0) execvpe(command[0], command, environment);
    int why = errno;
    if (write(report, &why, sizeof why) < 0) _exit(CANNOT_RUN);
    _exit(CANNOT_RUN);
}

static int open_pair(struct os_pty *pty, int *slave, int rows, int cols)
{
    *slave = -1;
    pty->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (pty->master < 0 || grantpt(pty->master) < 0 || unlockpt(pty->master) < 0) return -1;
    *slave = ioctl(pty->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (*slave < 0) *slave = open(ptsname(pty->master), O_RDWR | O_NOCTTY | O_CLOEXEC); /* before Linux 4.13 */
    if (*slave < 0) return -1;
    os_pty_resize(pty, rows, cols);
    return fcntl(pty->master, F_SETFL, O_NONBLOCK);
}

/* Returns the errno that exec_command reported; 0 if exec succeeded, which closes the pipe. */
static int wait_for_exec(int reader)
{
    int why = 0;
    ssize_t n;
    do {
        n = read(reader, &why, sizeof why);
    } while (n < 0 && errno == EINTR);
    return n > 0 ? why : 0;
}

int os_pty_start(struct os_pty *pty, char *const *command, int rows, int cols)
{
    int slave = -1, report[2] = {-1, -1}, why = 0;
    *pty = (struct os_pty){.master = -1};
    char **environment = make_environment();
    if (!environment || open_pair(pty, &slave, rows, cols) < 0 || pipe2(report, O_CLOEXEC) < 0)
        why = environment ? errno : ENOMEM;
    if (!why) pty->pid = fork();
    if (!why && pty->pid == 0) exec_command(slave, report[1], command, environment);
    if (!why && pty->pid < 0) why = errno;
    if (slave >= 0) close(slave);
    if (report[1] >= 0) close(report[1]);
    if (!why && (why = wait_for_exec(report[0])) != 0) waitpid(pty->pid, NULL, 0);
    if (report[0] >= 0) close(report[0]);
    free(environment);
    if (!why) return SUR_OK;
    if (pty->master >= 0) close(pty->master);
    *pty = (struct os_pty){.master = -1};
    return failure(SUR_ERR_IO, "cannot run %s: %s", command[0], strerror(why));
}

void os_pty_resize(struct os_pty *pty, int rows, int cols)
{
    struct winsize size = {.ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols};
    ioctl(pty->master, TIOCSWINSZ, &size);
}

bool os_pty_ended(struct os_pty *pty, int *status)
{
    int raw;
    if (pty->pid <= 0 || waitpid(pty->pid, &raw, WNOHANG) != pty->pid) return false;
    pty->pid = 0;
    *status = WIFSIGNALED(raw) ? 128 + WTERMSIG(raw) : WEXITSTATUS(raw);
    return true;
}

void os_pty_hang_up(struct os_pty *pty)
{
    if (pty->master >= 0) close(pty->master); /* the kernel sends SIGHUP */
    pty->master = -1;
    if (pty->hung_up_ns == 0) pty->hung_up_ns = sur_clock_ns();
}

void os_pty_close(struct os_pty *pty, int *status)
{
    os_pty_hang_up(pty);
    while (pty->pid > 0 && !os_pty_ended(pty, status)) {
        if (sur_clock_ns() - pty->hung_up_ns >= HANG_UP_NS) {
            *status = 128 + SIGHUP;
            pty->pid = 0;
            break;
        }
        sur_clock_sleep_until(sur_clock_ns() + LOOK_NS);
    }
}
