/* What a program under captions sets on its terminal beside the text: the modes that change what a terminal sends, and
 * the title. The real terminal gets the last value of each, whenever a frame is due. One thread. */
#ifndef MODES_H
#define MODES_H

#include <stdbool.h>

#include "overlay/filter.h"
#include "sink/output.h"

struct modes {
    struct {
        enum input_mode mode;
        int value;
        bool changed; /* the terminal does not have it yet */
    } order[MODES];   /* in the order in which they were set */
    char title[FILTER_STRING * 3];
    bool title_changed, titled; /* titled: the terminal has saved the title from before */
};

void modes_init(struct modes *m);
void modes_set(struct modes *m, enum input_mode mode, int value);
void modes_set_title(struct modes *m, const char *title);
void modes_resend(struct modes *m); /* the terminal has none of it */
/* Appends what the terminal does not have yet, and notes it for os_term_restore. */
void modes_append(struct modes *m, struct output *out);

#endif
