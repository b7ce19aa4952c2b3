/* A sink whose events become the overlay's captions. */
#include "overlay/overlay.h"

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
