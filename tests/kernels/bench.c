#include "checks.h"

int bench(void)
{
    return 1;
}
