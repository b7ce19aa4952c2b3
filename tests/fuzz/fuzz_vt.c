/* The emulated terminal behind its filter: for any output of a program and any resizes between, the cursor is on the
 * screen and no cell contains a control character.
 *
 * 0xff and two more bytes: another size. 0xfe and two more bytes: a run of combining characters, of one kind or of all
 * in turn, which libvterm counts as wide or as narrow. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "overlay/filter.h"
#include "overlay/vt.h"
#include "surtitle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_INPUT = 4096 };

static void require(int truth, const char *what)
{
    if (truth) return;
    fprintf(stderr, "%s\n", what);
    abort();
}

static void on_mode(void *user, enum input_mode mode, int value) {}

static void on_title(void *user, const char *title) {}

static bool on_join(void *user, uint32_t *code)
{
    return vt_joins(user, code);
}

static void check(struct vt *vt, struct screen *screen)
{
    char answers[256];
    vt_draw(vt, screen);
    struct vt_cursor c = vt_cursor(vt);
    require(c.row >= 0 && c.row < screen->rows && c.col >= 0 && c.col < screen->cols, "the cursor is off the screen");
    require(vt_reply(vt, answers, sizeof answers) <= sizeof answers, "more answers than room");
    for (int i = 0; i < screen->rows * screen->cols; i++) {
        const struct cell *cell = &screen->want[i];
        require(memchr(cell->text, 0, CELL_BYTES) != NULL && cell->width <= 2, "a cell without an end");
        for (const char *t = cell->text; *t; t++) require((uint8_t)*t >= 0x20 && *t != 0x7f, "a control character");
        require(strstr(cell->text, "\xc2\x9b") == NULL, "a control character of two bytes");
    }
}

static void feed(struct vt *vt, struct filter *f, const uint8_t *bytes, size_t n)
{
    static char passed[FILTER_ROOM(MAX_INPUT)];
    require(vt_feed(vt, passed, filter_feed(f, (const char *)bytes, n, passed)) == SUR_OK, "no memory");
}

/* In one piece, because libvterm combines only characters that arrive together. */
static void feed_run(struct vt *vt, struct filter *f, uint8_t kind, uint8_t n)
{
    static const char *const marks[] = {"\u3099", "\u309a", "\u302a", "\u302b", "\u302c", "\u302d",     "\u302e",
                                        "\u0301", "\u200d", "\ufe0f", "\u20dd", "\u1160", "\U000e0100", "\U000e01b0"};
    enum { MARKS = sizeof marks / sizeof *marks };
    char run[8 + 4 * 255] = "";
    size_t used = (size_t)sprintf(run, "%s", kind & 0x80 ? "\u304b" : kind & 0x40 ? "a" : "");
    for (int i = 0; i < n; i++) {
        const char *mark = marks[(kind & 0x0f) < MARKS ? (kind & 0x0f) : (kind + i) % MARKS];
        used += (size_t)sprintf(run + used, "%s", mark);
    }
    feed(vt, f, (const uint8_t *)run, used);
}

static void resize(struct vt *vt, struct screen *screen, uint8_t rows, uint8_t cols)
{
    require(vt_resize(vt, 1 + rows % 40, 1 + cols % 100) == SUR_OK, "no memory");
    require(screen_resize(screen, 1 + rows % 40, 1 + cols % 100) == SUR_OK, "no memory");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct filter f;
    struct screen screen = {0};
    struct vt *vt = NULL;
    if (size > MAX_INPUT) return 0;
    require(vt_create(&vt, 5, 20) == SUR_OK && screen_resize(&screen, 5, 20) == SUR_OK, "no memory");
    filter_init(&f, &(struct filter_calls){.mode = on_mode, .title = on_title, .joins = on_join, .user = vt});
    for (size_t at = 0; at < size;) {
        size_t n = 0;
        while (at + n < size && data[at + n] < 0xfe) n++;
        if (n) feed(vt, &f, data + at, n);
        check(vt, &screen);
        at += n;
        if (size - at < 3) break;
        if (data[at] == 0xff)
            resize(vt, &screen, data[at + 1], data[at + 2]);
        else
            feed_run(vt, &f, data[at + 1], data[at + 2]);
        check(vt, &screen);
        at += 3;
    }
    vt_destroy(&vt);
    screen_finish(&screen);
    return 0;
}
