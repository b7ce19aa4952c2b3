/* What the overlay draws on the real terminal: its layout, its cells, and the frame that is being written.
 *
 * A frame never waits for the terminal: what the terminal does not take is kept and written later, before the next
 * frame begins.
 *
 * Thread-safety: the overlay's thread, with the overlay's `terminal` lock held for the calls marked [T]. Another thread
 * that holds that lock may call display_release.
 * Errors: SUR_ERR_IO, the terminal has gone; SUR_ERR_MEMORY.
 * Units: times in ns of sur_clock_ns(). */
#ifndef DISPLAY_H
#define DISPLAY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "overlay/paint.h"
#include "overlay/program.h"
#include "overlay/screen.h"
#include "overlay/state.h"
#include "sink/captions.h"
#include "sink/output.h"

struct display {
    /* immutable */
    int terminal;            /* descriptor */
    int width;               /* columns of captions; 0: at most 80 */
    bool colour;             /* for the captions' own rows */
    struct program *program; /* the caller's; NULL: captions alone */

    /* under the terminal lock; `taken` is read without it */
    atomic_bool taken;
    struct output frame; /* being written */
    size_t n_written;    /* bytes of the frame that the terminal has taken */

    /* the overlay's thread */
    struct layout layout;
    struct screen screen;
    /* what the next frame begins with */
    const char *enter; /* the sequence that takes the terminal; NULL: it was written already */
    enum {
        ROWS_READY,
        ROWS_MOVED,
        ROWS_NEW
    } rows;                  /* whether our rows of the terminal must be cleared, or made first */
    struct vt_cursor cursor; /* as last written */
    int64_t last_frame_ns;
};

/* Reads the terminal's size; draws nothing. */
void display_init(struct display *d, int terminal, int width, bool colour, struct program *program);
void display_finish(struct display *d);
/* Reads the terminal's size again; the next frame draws everything. SUR_ERR_MEMORY. */
int display_resize(struct display *d);
/* [T] The terminal is taken from now on; display_resize must follow. */
void display_take(struct display *d);
/* [T] Gives the terminal back as it was, and drops the rest of the frame. */
void display_release(struct display *d);
/* Sets the cells of captions and status line. The caller holds the lock of what is painted. problem: "" for none. */
void display_paint(struct display *d, const struct captions *captions, const struct overlay_state *state,
                   const char *problem);
/* [T] Whether a frame may begin: the terminal is taken, has taken the last frame, and that one was long enough ago. */
bool display_may_draw(const struct display *d, int64_t now_ns);
/* [T] Begins a frame with what changed in the cells, and writes what the terminal takes now. */
int display_draw(struct display *d, int64_t now_ns);
/* [T] Writes more of the frame, if some of it is left. */
int display_write(struct display *d);
/* [T] When the thread must call again although nothing happened; INT64_MAX: never. changed: a frame waits to be drawn.
 */
int64_t display_due_ns(const struct display *d, bool changed, int64_t now_ns);

#endif
