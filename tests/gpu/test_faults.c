/* What the CUDA backend does when memory runs out or the device fails at any call: one error line, the right status,
 * the captions so far are kept, everything is freed, and the next run succeeds.
 *
 * Arguments: MODEL (a tiny random one) and FAKE, the driver that computes nothing (fake_cuda.c): with it any call can
 * fail. Without FAKE the machine's own driver is used, and only allocations fail; exit status 77: there is none. */
#include <dlfcn.h>
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_cuda.h"
#include "gpu/load.h"
#include "surtitle.h"

enum { CLIP = 9000, MAX_STEPS = 100 };
static const char *folder;
static int limit_least;        /* MiB: the smallest limit that works; layers are then copied in every pass */
static struct fake_cuda *fake; /* NULL: a real driver */
static CUresult (*mem_get_info)(size_t *, size_t *);

struct heard {
    int n;
    struct {
        int32_t id;
        float margin;
    } tokens[MAX_STEPS];
};
static struct heard want, got;

static void poll_all(struct sur_session *s, struct heard *h)
{
    struct sur_event e;
    while (sur_session_poll(s, &e) == SUR_OK)
        if (e.type == SUR_EVENT_TOKEN) {
            assert_true(h->n < MAX_STEPS);
            h->tokens[h->n].id = e.id;
            h->tokens[h->n++].margin = e.margin;
        }
}

/* Captions the clip. Returns SUR_END, or the failure, with its error line in `line`. */
static int captions(struct heard *h, enum sur_backend_kind backend, int limit_mib, char *line)
{
    static int16_t clip[CLIP];
    struct sur_model *m = NULL;
    struct sur_session *s = NULL;
    struct sur_model_options mo;
    struct sur_session_options so;
    for (int i = 0; i < CLIP; i++) clip[i] = (int16_t)(i * 7919);
    memset(h, 0, sizeof *h);
    sur_model_options_init(&mo);
    sur_session_options_init(&so);
    mo.dir = folder;
    mo.backend = backend;
    mo.vram_limit_mib = limit_mib;
    int r = sur_model_open(&m, &mo);
    if (!r && limit_mib) {
        struct sur_model_stats stats;
        sur_model_get_stats(m, &stats);
        assert_in_range(stats.n_resident, 0, stats.n_layers - 1); /* with the limit some layers are not resident */
    }
    if (!r) r = sur_session_create(&s, m, &so);
    if (!r) assert_int_equal(sur_session_feed(s, clip, CLIP), CLIP);
    if (!r) sur_session_finish(s);
    while (!r) {
        r = sur_session_run(s);
        poll_all(s, h);
    }
    if (r != SUR_END) snprintf(line, 512, "%s", sur_error_text());
    sur_session_destroy(&s);
    sur_model_close(&m);
    return r;
}

static void begins_as_wanted(void)
{
    assert_true(got.n <= want.n);
    assert_memory_equal(got.tokens, want.tokens, (size_t)got.n * sizeof *got.tokens);
}

static void all_as_wanted(int limit_mib)
{
    char line[512] = "";
    int r = captions(&got, SUR_BACKEND_CUDA, limit_mib, line);
    if (r != SUR_END) fail_msg("%s", line);
    assert_int_equal(got.n, want.n);
    begins_as_wanted();
}

/* ---- memory ---- */

static int n_asked, refused; /* refused: index of the allocation to refuse; -1: none */

static int may_allocate(size_t n_bytes)
{
    (void)n_bytes;
    return n_asked++ != refused;
}

static size_t free_bytes(void)
{
    size_t n = 0, total;
    assert_int_equal(mem_get_info(&n, &total), CUDA_SUCCESS);
    return n;
}

static void refuse_each(int limit_mib)
{
    char line[512];
    int r = SUR_ERR_BACKEND;
    size_t before = free_bytes(), slack = fake ? 0 : 1 << 20; /* a real driver keeps some */
    for (refused = 0; r != SUR_END; refused++) {
        n_asked = 0;
        r = captions(&got, SUR_BACKEND_CUDA, limit_mib, line);
        if (n_asked <= refused) break; /* nothing was refused */
        assert_int_equal(r, SUR_ERR_BACKEND);
        assert_int_equal(got.n, 0); /* all allocations come before the first caption */
        if (!strstr(line, "not enough") || strchr(line, '\n')) fail_msg("allocation %d: %s", refused, line);
        assert_true(free_bytes() + slack >= before);
    }
    assert_int_equal(r, SUR_END);
    printf("%d allocations refused%s\n", refused, limit_mib ? ", with layers in pinned memory" : "");
    assert_true(refused > 20);
    refused = -1;
    begins_as_wanted();
}

static void test_no_memory(void **state)
{
    (void)state;
    refuse_each(0);
    refuse_each(limit_least);
}

/* --backend auto then uses the CPU. */
static void test_makes_way(void **state)
{
    (void)state;
    char line[512] = "";
    n_asked = refused = 0;
    assert_int_equal(captions(&got, SUR_BACKEND_AUTO, 0, line), SUR_END);
    assert_int_equal(n_asked, 1);
    assert_int_equal(got.n, want.n);
    refused = -1;
}

/* ---- calls ---- */

/* Lets each call of a run fail in turn: alone, or (for_good) with all calls after it. */
static void fail_each(int limit_mib, int for_good)
{
    char line[512];
    int r = SUR_ERR_BACKEND, n = 0, in_mid_stream = 0, objects = atomic_load(&fake->n_objects);
    fake->for_good = for_good;
    for (;;) {
        atomic_store(&fake->n_calls, 0);
        fake->fail_at = ++n;
        r = captions(&got, SUR_BACKEND_CUDA, limit_mib, line);
        fake->fail_at = 0;
        if (atomic_load(&fake->n_calls) < n) break; /* nothing failed */
        if (atomic_load(&fake->n_objects) != objects) fail_msg("call %d: something was kept", n);
        begins_as_wanted();
        if (r == SUR_END) continue; /* the failure was harmless */
        assert_int_equal(r, SUR_ERR_BACKEND);
        if (!strstr(line, "illegal memory access") || strchr(line, '\n')) fail_msg("call %d: %s", n, line);
        in_mid_stream += got.n > 0;
    }
    assert_int_equal(r, SUR_END);
    printf("%d calls failed%s, %d of them with captions out\n", n - 1, for_good ? " for good" : "", in_mid_stream);
    assert_true(in_mid_stream > 20);
}

static void test_failing_calls(void **state)
{
    (void)state;
    if (!fake) skip();
    fail_each(0, true);
    fail_each(limit_least, false);
}

/* ---- norms ---- */

/* Device memory that a session with this delay takes. */
static size_t session_bytes(struct sur_session **s, struct sur_model *m, int delay_ms)
{
    struct sur_session_options o;
    const size_t before = free_bytes();
    sur_session_options_init(&o);
    o.delay_ms = delay_ms;
    assert_int_equal(sur_session_create(s, m, &o), SUR_OK);
    return before - free_bytes();
}

/* Norms folded for a delay are the model's: the first session with the delay makes them, the last one frees them. */
static void test_shared_norms(void **state)
{
    (void)state;
    struct sur_model *m = NULL;
    struct sur_session *first, *second, *other;
    struct sur_model_options o;
    if (!fake) skip();
    sur_model_options_init(&o);
    o.dir = folder;
    o.backend = SUR_BACKEND_CUDA;
    assert_int_equal(sur_model_open(&m, &o), SUR_OK);
    const size_t before = free_bytes(), with_norms = session_bytes(&first, m, 480);
    const size_t without = session_bytes(&second, m, 480), norms = with_norms - without;
    assert_true(with_norms > without);
    const size_t other_with = session_bytes(&other, m, 960);
    sur_session_destroy(&first);
    assert_int_equal(session_bytes(&first, m, 480), without); /* the second session still has them */
    sur_session_destroy(&first);
    sur_session_destroy(&second);
    assert_int_equal(session_bytes(&first, m, 480), with_norms);
    assert_int_equal(session_bytes(&second, m, 960), other_with - norms);
    sur_session_destroy(&first);
    sur_session_destroy(&second);
    sur_session_destroy(&other);
    assert_int_equal(free_bytes(), before);
    sur_model_close(&m);
}

/* ---- all of it ---- */

static void *symbol(void *library, const char *name)
{
    void *address = dlsym(library, name);
    if (!address) exit((fprintf(stderr, "no %s\n", name), 1));
    return address;
}

static char told[512];

static void keep_gpu(void *user, enum sur_log_level level, const char *line)
{
    (void)user;
    if (level == SUR_LOG_INFO && strncmp(line, "GPU ", 4) == 0 && !strstr(line, "left out"))
        snprintf(told, sizeof told, "%s", line);
}

/* Opens a model on the wanted device (-1: any). Returns the device or the failure; *line: what was logged of it. */
static int open_on(int wanted, const char **line)
{
    struct sur_model *m = NULL;
    struct sur_model_options o;
    sur_model_options_init(&o);
    o.dir = folder;
    o.backend = SUR_BACKEND_CUDA;
    o.gpu = wanted;
    told[0] = 0;
    int r = sur_model_open(&m, &o);
    *line = r ? sur_error_text() : told;
    sur_model_close(&m);
    return r ? r : fake->last_device;
}

/* Of several GPUs those that are too old, have no context or less free memory are passed over. */
static void test_several(void **state)
{
    (void)state;
    const char *line;
    if (!fake) skip();
    assert_int_equal(open_on(-1, &line), 0);
    assert_non_null(strstr(line, "the only one of 1"));
    fake->n_devices = 4;
    fake->devices[0].major = 5; /* an old display card */
    fake->devices[1].major = 9;
    fake->devices[1].used_bytes = (size_t)3 << 30;
    fake->devices[2].major = 8;
    fake->devices[2].used_bytes = (size_t)1 << 30;
    fake->devices[3].major = 9;
    fake->devices[3].used_bytes = (size_t)2 << 30;
    assert_int_equal(open_on(-1, &line), 2);
    assert_non_null(strstr(line, "GPU 2"));
    assert_non_null(strstr(line, "of 3 that can be used the most free memory, 3072 MiB"));
    fake->devices[2].is_broken = 1;
    assert_int_equal(open_on(-1, &line), 3);
    fake->devices[2].is_broken = 0;
    assert_int_equal(open_on(1, &line), 1);
    assert_non_null(strstr(line, "as asked"));
    assert_int_equal(open_on(0, &line), SUR_ERR_BACKEND);
    assert_non_null(strstr(line, "compute capability 5.0"));
    assert_int_equal(open_on(4, &line), SUR_ERR_ARGUMENT);
    assert_non_null(strstr(line, "there is no GPU 4: the driver sees 4"));
    for (int i = 1; i < 4; i++) fake->devices[i].major = 7;
    assert_int_equal(open_on(-1, &line), SUR_ERR_BACKEND);
    assert_non_null(strstr(line, "8.0 is needed"));
    fake->n_devices = 1;
    memset(fake->devices, 0, sizeof fake->devices);
    fake->devices[0].major = 9;
    assert_int_equal(open_on(-1, &line), 0);
}

/* Opens the driver, with a context of the test's own that outlives the module's. */
static bool open_driver(const char *path)
{
    void *library = dlopen(path ? path : "libcuda.so.1", RTLD_NOW | RTLD_GLOBAL), *f[5];
    CUresult (*init)(unsigned), (*retain)(CUcontext *, CUdevice), (*set_current)(CUcontext);
    CUcontext context;
    if (!library) return printf("%s\n", dlerror()), false;
    static const char *const names[] = {"cuInit", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuMemGetInfo_v2"};
    for (int i = 0; i < 4; i++) f[i] = symbol(library, names[i]);
    memcpy(&init, &f[0], sizeof init);
    memcpy(&retain, &f[1], sizeof retain);
    memcpy(&set_current, &f[2], sizeof set_current);
    memcpy(&mem_get_info, &f[3], sizeof mem_get_info);
    if (path) fake = symbol(library, "fake_cuda");
    if (!init(0) && !retain(&context, 0) && !set_current(context)) return true;
    return printf("the driver sees no GPU\n"), false;
}

int main(int argc, char **argv)
{
    char line[512];
    if (argc < 2 || argc > 3) return fprintf(stderr, "usage: test_faults MODEL [FAKE]\n"), 2;
    folder = argv[1];
    mallopt(M_PERTURB, 0); /* a thousand runs with 64 MiB of buffers each: filling them would take most of the time */
    if (!open_driver(argv[2])) return 77;
    refused = -1;
    sur_gpu_services.may_allocate = may_allocate;
    do limit_least++;
    while (captions(&want, SUR_BACKEND_CUDA, limit_least, line) == SUR_ERR_BACKEND && limit_least < 100);
    if (captions(&want, SUR_BACKEND_CUDA, 0, line) != SUR_END) return fprintf(stderr, "%s\n", line), 1;
    sur_set_log(SUR_LOG_INFO, keep_gpu, NULL);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_no_memory), cmocka_unit_test(test_makes_way),
                                       cmocka_unit_test(test_failing_calls), cmocka_unit_test(test_shared_norms),
                                       cmocka_unit_test(test_several)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    all_as_wanted(0);
    all_as_wanted(limit_least);
    return failed;
}
