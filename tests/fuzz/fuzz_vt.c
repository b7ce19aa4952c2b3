/* The emulated terminal behind its filter: whatever a program writes, and however its window is resized in between, the
 * cursor stands on the screen and no cell holds what a real terminal would obey. 0xff and two more bytes: another size.
 */
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char passed[FILTER_ROOM(MAX_INPUT)];
    struct filter_calls calls = {.mode = on_mode, .title = on_title};
    struct filter f;
    struct screen screen = {0};
    struct vt *vt = NULL;
    if (size > MAX_INPUT) return 0;
    filter_init(&f, &calls);
    require(vt_create(&vt, 5, 20) == SUR_OK && screen_resize(&screen, 5, 20) == SUR_OK, "no memory");
    for (size_t at = 0; at < size;) {
        const uint8_t *end = memchr(data + at, 0xff, size - at);
        size_t n = end ? (size_t)(end - data) - at : size - at;
        vt_feed(vt, passed, filter_feed(&f, (const char *)data + at, n, passed));
        check(vt, &screen);
        at += n;
        if (size - at < 3) break;
        int rows = 1 + data[at + 1] % 40, cols = 1 + data[at + 2] % 100;
        vt_resize(vt, rows, cols);
        require(screen_resize(&screen, rows, cols) == SUR_OK, "no memory");
        check(vt, &screen);
        at += 3;
    }
    vt_destroy(&vt);
    screen_finish(&screen);
    return 0;
}
