/* What a program under captions sets on its terminal besides text: the modes that change what a terminal sends, and the
 * title. The real terminal gets the latest value of each with the next frame.
 *
 * Thread-safety: one thread. Errors: those of output_append. */
#ifndef MODES_H
#define MODES_H

#include <stdbool.h>

#include "overlay/filter.h"
#include "sink/output.h"

struct modes {
    struct {
        enum input_mode mode;
        int value;
        bool changed; /* not sent to the terminal yet */
    } order[MODES];   /* in the order in which they were set */
    char title[FILTER_STRING * 3];
    bool title_changed, titled; /* titled: the terminal has saved its earlier title */
};

void modes_init(struct modes *m);
void modes_set(struct modes *m, enum input_mode mode, int value);
/* title: any bytes, terminated. */
void modes_set_title(struct modes *m, const char *title);
/* Everything is to be sent again, because the terminal has been taken anew. */
void modes_resend(struct modes *m);
/* Appends what was not sent yet, and notes it for os_term_restore. */
void modes_append(struct modes *m, struct output *out);

#endif
