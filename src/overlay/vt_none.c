#include "overlay/vt.h"

#include "surtitle.h"
#include "util/failure.h"

bool vt_exists(void)
{
    return false;
}

int vt_create(struct vt **vt, int rows, int cols)
{
    *vt = NULL;
    return failure(SUR_ERR_ARGUMENT, "this build cannot run a program under captions: it was built without libvterm");
}

void vt_destroy(struct vt **vt) {}

int vt_resize(struct vt *vt, int rows, int cols)
{
    return SUR_OK;
}

bool vt_joins(struct vt *vt, uint32_t *code)
{
    return false;
}

int vt_feed(struct vt *vt, const char *bytes, size_t n)
{
    return SUR_OK;
}

size_t vt_reply(struct vt *vt, char *out, size_t size)
{
    return 0;
}

void vt_draw(struct vt *vt, struct screen *screen) {}

void vt_draw_all(struct vt *vt) {}

struct vt_cursor vt_cursor(const struct vt *vt)
{
    return (struct vt_cursor){0};
}

bool vt_take_bell(struct vt *vt)
{
    return false;
}
