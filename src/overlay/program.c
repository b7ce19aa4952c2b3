#include "overlay/program.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "surtitle.h"

enum { READ_BYTES = 16384, READS_PER_CALL = 16 };

/* ---- what the filter calls ---- */

static void on_mode(void *user, enum input_mode mode, int value)
{
    struct program *p = user;
    modes_set(&p->modes, mode, value);
}

static void on_title(void *user, const char *title)
{
    struct program *p = user;
    modes_set_title(&p->modes, title);
}

static bool on_join(void *user, uint32_t *code)
{
    struct program *p = user;
    return vt_joins(p->vt, code);
}

/* ---- life ---- */

void program_init(struct program *p)
{
    memset(p, 0, sizeof *p);
    p->pty.master = -1;
    modes_init(&p->modes);
}

int program_start(struct program *p, char *const *command, int rows, int cols, bool *cannot_run)
{
    struct filter_calls calls = {.mode = on_mode, .title = on_title, .joins = on_join, .user = p};
    if (rows < 1) rows = 1;
    int status = vt_create(&p->vt, rows, cols);
    if (status != SUR_OK) return status;
    filter_init(&p->filter, &calls);
    status = os_pty_start(&p->pty, command, rows, cols);
    *cannot_run = status == SUR_ERR_IO;
    return status;
}

void program_finish(struct program *p)
{
    vt_destroy(&p->vt);
}

int program_resize(struct program *p, int rows, int cols)
{
    if (rows < 1) rows = 1;
    int status = vt_resize(p->vt, rows, cols);
    if (status != SUR_OK) return status;
    vt_draw_all(p->vt);
    if (p->pty.master >= 0) os_pty_resize(&p->pty, rows, cols);
    return SUR_OK;
}

/* ---- its input and output ---- */

void program_add_input(struct program *p, const char *bytes, size_t n)
{
    if (n > sizeof p->input - p->n_input) return;
    memcpy(p->input + p->n_input, bytes, n);
    p->n_input += n;
}

bool program_takes_keys(const struct program *p)
{
    return p->n_input < sizeof p->input / 2;
}

void program_send_input(struct program *p)
{
    ssize_t n = p->n_input ? write(p->pty.master, p->input, p->n_input) : 0;
    if (n <= 0) return;
    p->n_input -= (size_t)n;
    memmove(p->input, p->input + n, p->n_input);
}

int program_read_output(struct program *p)
{
    static char bytes[READ_BYTES], filtered[FILTER_ROOM(READ_BYTES)];
    char reply[1024];
    int status = SUR_OK;
    for (int i = 0; i < READS_PER_CALL && status == SUR_OK; i++) {
        ssize_t n = read(p->pty.master, bytes, sizeof bytes);
        if (n < 0 && errno != EAGAIN && errno != EINTR) p->output_ended = true;
        if (n <= 0) break;
        status = vt_feed(p->vt, filtered, filter_feed(&p->filter, bytes, (size_t)n, filtered));
        program_add_input(p, reply, vt_reply(p->vt, reply, sizeof reply));
    }
    return status;
}
