/* The emulated terminal that a program under captions writes to. vt.c knows libvterm, and nothing else does; vt_none.c
 * stands for it where libvterm is missing. One thread. */
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
    int shape; /* enum vt_shape; 0: the program has said nothing of it */
};

struct vt;

bool vt_exists(void); /* built with libvterm */
/* SUR_ERR_MEMORY; SUR_ERR_ARGUMENT without libvterm. rows, cols > 0. */
int vt_create(struct vt **vt, int rows, int cols);
void vt_destroy(struct vt **vt);
/* These two: SUR_ERR_MEMORY, then and ever after. Margins end with the size. */
int vt_resize(struct vt *vt, int rows, int cols);
/* What filter_calls.joins asks: whether the emulator adds a character to the one before it. If so, *code becomes the
 * character to feed instead, which vt_draw turns back, or 0 if it cannot be fed. */
bool vt_joins(struct vt *vt, uint32_t *code);
/* Bytes that went through filter.h, with vt_joins as its `joins`. */
int vt_feed(struct vt *vt, const char *bytes, size_t n);
/* Takes what the emulator answers to the program's questions; returns how many bytes. */
size_t vt_reply(struct vt *vt, char *out, size_t size);
/* Copies the rows that changed since the last call into the screen's first rows; the sizes fit as far as they go. */
void vt_draw(struct vt *vt, struct screen *screen);
void vt_draw_all(struct vt *vt); /* the next vt_draw copies every row */
struct vt_cursor vt_cursor(const struct vt *vt);
bool vt_take_bell(struct vt *vt); /* takes it */

#endif
