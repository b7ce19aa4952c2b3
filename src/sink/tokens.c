/* tokens: one line per decoder step, STEP<TAB>ID<TAB>MARGIN<TAB>PIECE, to compare runs bit by bit. */
#include <inttypes.h>

#include "sink/sink.h"
#include "util/utf8.h"

static void append_hex(struct output *out, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) output_printf(out, "\\x%02x", bytes[i]);
}

/* Lossless: what is not printable is written as \xNN per byte. */
static void append_piece(struct output *out, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n;) {
        uint32_t c;
        int took = sur_utf8_decode(bytes + i, n - i, &c);
        size_t length = took > 0 ? (size_t)took : took < 0 ? (size_t)-took : n - i;
        if (took <= 0)
            append_hex(out, bytes + i, length);
        else if (c == '\\')
            output_append(out, "\\\\", 2);
        else if (c == '\t')
            output_append(out, "\\t", 2);
        else if (c == '\n')
            output_append(out, "\\n", 2);
        else if (c == '\r')
            output_append(out, "\\r", 2);
        else if (!sur_utf8_printable(c))
            append_hex(out, bytes + i, length);
        else
            output_append(out, (const char *)bytes + i, length);
        i += length;
    }
}

static int on_event(struct sink *sink, const struct sur_event *event)
{
    if (event->type != SUR_EVENT_TOKEN) return SUR_OK;
    output_printf(sink->out, "%" PRId64 "\t%" PRId32 "\t%.6f\t", event->step, event->id, (double)event->margin);
    append_piece(sink->out, (const uint8_t *)event->piece, event->piece_bytes);
    output_append(sink->out, "\n", 1);
    return output_flush(sink->out);
}

const struct sink_class sink_tokens = {.name = "tokens", .size = sizeof(struct sink), .event = on_event};
