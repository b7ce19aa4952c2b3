/* Opening a model: checkpoint, backend, weights. */
#include "core.h"

#include <sched.h>
#include <stdlib.h>

#include "util/error.h"
#include "util/log.h"

const char *sur_version(void)
{
    return SUR_VERSION;
}

void sur_model_options_init(struct sur_model_options *o)
{
    *o = (struct sur_model_options){.dir = NULL};
}

/* Cores of the affinity mask, at most 16: more does not help, since the model is bound by memory. */
static int default_threads(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    return n < 1 ? 1 : n > 16 ? 16 : n;
}

int sur_model_open(struct sur_model **model, const struct sur_model_options *o)
{
    *model = NULL;
    if (!o->dir) return sur_fail(SUR_ERR_ARGUMENT, "no model folder was named");
    if (o->threads < 0 || o->threads > 1024) return sur_fail(SUR_ERR_ARGUMENT, "%d threads", o->threads);
    struct sur_model *m = calloc(1, sizeof *m);
    if (!m) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    int r = sur_checkpoint_open(&m->checkpoint, o->dir);
    if (!r) r = sur_backend_choose(&m->backend, o->backend);
    if (!r) {
        m->tekken = sur_tekken_info(m->checkpoint->tekken);
        struct sur_backend_options b = {o->kv, o->cpu, o->gemm, o->threads ? o->threads : default_threads()};
        r = m->backend->open(&m->state, m->checkpoint, &b);
    }
    if (r) sur_model_close(&m);
    *model = m;
    return r;
}

void sur_model_close(struct sur_model **model)
{
    struct sur_model *m = *model;
    if (!m) return;
    if (atomic_load(&m->n_sessions)) {
        sur_log(SUR_LOG_ERROR, "a model was closed while %d sessions use it; it stays open",
                atomic_load(&m->n_sessions));
        return;
    }
    if (m->state) m->backend->close(m->state);
    sur_checkpoint_close(&m->checkpoint);
    free(m);
    *model = NULL;
}

const char *sur_model_backend(const struct sur_model *m)
{
    return m->backend->name;
}
int sur_model_delay_ms(const struct sur_model *m)
{
    return m->tekken->delay_ms;
}

int sur_delay_check(int ms)
{
    if (ms == 2400 || (ms >= 80 && ms <= 1200 && ms % 80 == 0)) return SUR_OK;
    return sur_fail(SUR_ERR_ARGUMENT, "a delay of %d ms does not exist: 80 to 1200 in steps of 80, or 2400", ms);
}
