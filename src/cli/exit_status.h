/* Exit statuses (docs/contract.md). The functions of a run return one of these, EXIT_DONE or another after one line on
 * standard error. */
#ifndef EXIT_STATUS_H
#define EXIT_STATUS_H

enum exit_status {
    EXIT_DONE = 0,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
    EXIT_NO_DEVICE = 3,
    EXIT_NO_MODEL = 4,
    EXIT_NO_BACKEND = 5,
    EXIT_CANNOT_RUN = 127
};

#endif
