/* Opening a model: checkpoint, backend, weights. */
#include "core.h"

#include <pthread.h>
#include <stdlib.h>

#include "backend_choice.h"
#include "cpu/os_cores.h"
#include "cpu/pool.h"
#include "util/error.h"
#include "util/log.h"

const char *sur_version(void)
{
    return SUR_VERSION;
}

static atomic_int n_forks;
static pthread_once_t watch_once = PTHREAD_ONCE_INIT;

static void on_fork_in_child(void)
{
    atomic_fetch_add(&n_forks, 1);
    sur_pool_forget();
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, on_fork_in_child);
}

int sur_forks(void)
{
    return atomic_load_explicit(&n_forks, memory_order_relaxed);
}

int sur_check_process(const struct sur_model *m)
{
    if (m->n_forks == sur_forks()) return SUR_OK;
    return sur_fail(SUR_ERR_ARGUMENT, "the model was opened before a fork, and cannot be used in the child");
}

int sur_model_open(struct sur_model **model, const struct sur_model_options *o)
{
    if (!model) return sur_fail(SUR_ERR_ARGUMENT, "nowhere to put the model: NULL");
    *model = NULL;
    if (!o) return sur_fail(SUR_ERR_ARGUMENT, "no options were given");
    int r = sur_check_model_options(o);
    if (r) return r;
    struct sur_model *m = calloc(1, sizeof *m);
    if (!m) return sur_fail(SUR_ERR_MEMORY, "not enough memory");
    pthread_once(&watch_once, watch_forks);
    m->n_forks = sur_forks();
    r = sur_checkpoint_open(&m->checkpoint, o->dir);
    if (!r) {
        m->tekken = sur_tekken_info(m->checkpoint->tekken);
        struct sur_model_options b = *o;
        if (!b.threads) b.threads = sur_cores_default();
        r = sur_backend_open(&m->backend, &m->state, m->checkpoint, &b);
    }
    if (r) sur_model_close(&m);
    *model = m;
    return r;
}

void sur_model_close(struct sur_model **model)
{
    struct sur_model *m = model ? *model : NULL;
    if (!m) return;
    if (atomic_load(&m->n_sessions)) {
        sur_log(SUR_LOG_ERROR, "a model was closed while %d sessions use it; it stays open",
                atomic_load(&m->n_sessions));
        return;
    }
    if (m->state && m->n_forks == sur_forks()) m->backend->close(m->state);
    sur_checkpoint_close(&m->checkpoint);
    free(m);
    *model = NULL;
}

const char *sur_model_backend(const struct sur_model *m)
{
    return m ? m->backend->name : "";
}

const char *sur_model_weights(const struct sur_model *m)
{
    return m ? sur_checkpoint_type(m->checkpoint) : "";
}

void sur_model_get_stats(const struct sur_model *m, struct sur_model_stats *stats)
{
    if (!stats) return;
    *stats = (struct sur_model_stats){0};
    if (m && !sur_check_process(m)) m->backend->stats(m->state, stats);
}

int sur_model_delay_ms(const struct sur_model *m)
{
    return m ? m->tekken->delay_ms : 0;
}
