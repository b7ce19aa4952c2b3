#include "cli/run_parts.h"

#include <stdio.h>
#include <time.h>

#include "util/clock.h"

int run_delay_ms(const struct run *run)
{
    return run->options.delay_ms ? run->options.delay_ms : sur_model_delay_ms(run->model);
}

int run_write_start(struct run *run)
{
    char wall[64];
    int64_t wall_ns = audio_in_first_wall(&run->in, &run->options);
    if (wall_ns == 0) wall_ns = sur_clock_wall_ns(); /* a paced file begins now; a signal came before any audio */
    time_t seconds = (time_t)(wall_ns / 1000000000);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t n = strftime(wall, sizeof wall, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(wall + n, sizeof wall - n, ".%03dZ", (int)(wall_ns / 1000000 % 1000));
    struct sink_start start = {.model = run->model_path,
                               .backend = sur_model_backend(run->model),
                               .wall = wall,
                               .delay_ms = run_delay_ms(run),
                               .rate = run->in.source.rate};
    return outputs_start(&run->outputs, &start);
}
