/* The emulated terminal that a program under captions writes to. Only vt.c uses libvterm; vt_none.c replaces it in
 * builds without libvterm.
 *
 * Thread-safety: one thread for all of them (vt.c has static tables).
 * Errors: SUR_ERR_MEMORY; after the first one, every call that can fail returns it. */
#ifndef VT_H
#define VT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "overlay/screen.h"

enum vt_shape { VT_BLOCK = 1, VT_UNDERLINE, VT_BAR };

struct vt_cursor {
    int row, col;
    bool visible, blinks;
    int shape; /* enum vt_shape; 0: not set by the program */
};

struct vt;

bool vt_exists(void); /* built with libvterm */
/* rows, cols > 0. SUR_ERR_ARGUMENT without libvterm. */
int vt_create(struct vt **vt, int rows, int cols);
void vt_destroy(struct vt **vt);
/* Resets the margins. */
int vt_resize(struct vt *vt, int rows, int cols);
/* For filter_calls.joins: returns whether the emulator combines a character with the one before it. If so, *code
 * becomes the character to feed instead, which vt_draw turns back, or 0 if it cannot be fed. */
bool vt_joins(struct vt *vt, uint32_t *code);
/* bytes: the output of a filter (filter.h) that uses vt_joins. */
int vt_feed(struct vt *vt, const char *bytes, size_t n);
/* Removes up to size bytes of the emulator's answers to the program; returns their number. */
size_t vt_reply(struct vt *vt, char *out, size_t size);
/* Copies the rows that changed since the last call to the screen, from its first row on, as far as both reach. */
void vt_draw(struct vt *vt, struct screen *screen);
void vt_draw_all(struct vt *vt); /* the next vt_draw copies every row */
struct vt_cursor vt_cursor(const struct vt *vt);
bool vt_take_bell(struct vt *vt); /* whether the bell rang since the last call */

#endif
