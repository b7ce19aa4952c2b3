/* What surtitle.h says of arguments: each call with what it must refuse, which leaves one line and changes nothing.
 * Argument: the folder of a tiny model. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "surtitle.h"

static struct sur_model_options model_options;
static struct sur_session_options session_options;
static struct sur_model *model;

static void refused(int status)
{
    assert_int_equal(status, SUR_ERR_ARGUMENT);
    assert_true(strlen(sur_error_text()) > 10);
    assert_null(strchr(sur_error_text(), '\n'));
}

static void refuse_model(const struct sur_model_options *o)
{
    struct sur_model *m = model;
    refused(sur_model_open(&m, o));
    assert_null(m);
}

static void refuse_session(const struct sur_session_options *o)
{
    struct sur_session *s = (struct sur_session *)model;
    refused(sur_session_create(&s, model, o));
    assert_null(s);
}

static struct sur_session *open_session(void)
{
    struct sur_session *s = NULL;
    if (sur_session_create(&s, model, &session_options)) fail_msg("%s", sur_error_text());
    return s;
}

static void test_null(void **state)
{
    (void)state;
    struct sur_session *s = open_session();
    struct sur_model_stats ms;
    struct sur_session_stats ss;
    struct sur_event e;
    struct sur_model *no_model = NULL;
    struct sur_session *no_session = NULL;
    float out[4];
    sur_model_options_init(NULL);
    sur_session_options_init(NULL);
    refused(sur_model_open(NULL, &model_options));
    refuse_model(NULL);
    sur_model_close(NULL);
    sur_model_close(&no_model);
    assert_string_equal(sur_model_backend(NULL), "");
    assert_string_equal(sur_model_weights(NULL), "");
    assert_string_equal(sur_model_weights(model), "bf16");
    assert_int_equal(sur_model_delay_ms(NULL), 0);
    sur_model_get_stats(model, NULL);
    sur_model_get_stats(NULL, &ms);
    assert_int_equal(ms.n_layers, 0);
    refused(sur_session_create(NULL, model, &session_options));
    refused(sur_session_create(&no_session, NULL, &session_options));
    refuse_session(NULL);
    sur_session_destroy(NULL);
    sur_session_destroy(&no_session);
    assert_int_equal(sur_session_feed(NULL, out, 1), 0);
    assert_int_equal(sur_session_feed(s, NULL, 1), 0);
    refused(sur_session_skip(NULL, 1, SUR_SKIP_GAP));
    sur_session_finish(NULL);
    sur_session_stop(NULL);
    refused(sur_session_encode(NULL, 1));
    refused(sur_session_decode(NULL, 1));
    refused(sur_session_run(NULL));
    refused(sur_session_poll(NULL, &e));
    refused(sur_session_poll(s, NULL));
    assert_int_equal(sur_session_fd(NULL), -1);
    sur_session_get_stats(s, NULL);
    sur_session_get_stats(NULL, &ss);
    assert_int_equal(ss.steps, 0);
    refused((int)sur_session_stage(NULL, "rows", 0, out, 4));
    refused((int)sur_session_stage(s, NULL, 0, out, 4));
    refused((int)sur_session_stage(s, "rows", 0, NULL, 4));
    sur_session_destroy(&s);
}

/* Every choice and number of the options, below and above its range. The enums are ints, whatever their type says. */
static void test_options(void **state)
{
    (void)state;
    static const int bad[] = {-1, 99, INT_MIN, INT_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        for (int field = 0; field < 8; field++) {
            struct sur_model_options o = model_options;
            int *fields[] = {(int *)&o.backend,          (int *)&o.kv,        (int *)&o.gemm,
                             (int *)&o.encode_on,        (int *)&o.decode_on, &o.threads,
                             (int *)&o.window_attention, &o.vram_limit_mib};
            bool counts = fields[field] == &o.threads || fields[field] == &o.vram_limit_mib;
            if (counts && bad[i] == 99) continue;
            if (fields[field] == &o.vram_limit_mib && bad[i] == INT_MAX) continue;
            *fields[field] = bad[i];
            refuse_model(&o);
        }
        for (int field = 0; field < 7; field++) {
            struct sur_session_options o = session_options;
            int *fields[] = {(int *)&o.format, (int *)&o.mode, (int *)&o.resampler, &o.delay_ms,
                             &o.rate,          &o.channels,    &o.buffer_ms};
            if (field == 6 && bad[i] == 99) continue;
            *fields[field] = bad[i];
            refuse_session(&o);
        }
    }
    struct sur_model_options mo = model_options;
    mo.cpu = "sse";
    refuse_model(&mo);
    assert_string_equal(sur_error_text(), "there is no instruction set sse");
    mo.backend = SUR_BACKEND_CUDA; /* checked for every backend */
    refuse_model(&mo);
    assert_string_equal(sur_error_text(), "there is no instruction set sse");
    mo.backend = model_options.backend;
    mo.cpu = NULL;
    assert_string_equal(sur_cpu_name(0), "plain");
    assert_null(sur_cpu_name(-1));
    assert_null(sur_cpu_name(99));
    assert_string_equal(sur_backend_name(SUR_BACKEND_AUTO), "auto");
    assert_string_equal(sur_backend_name(SUR_BACKEND_CPU), "cpu");
    assert_null(sur_backend_name((enum sur_backend_kind)99));
    mo.gpu = -2;
    refuse_model(&mo);
    mo.gpu = 0; /* the CPU has none */
    refuse_model(&mo);
    struct sur_session_options o = session_options;
    o.n_force = 3; /* of nothing */
    refuse_session(&o);
}

/* A field of a later version, in the place that was kept for it. */
static void test_reserved(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        struct sur_model_options mo = model_options;
        struct sur_session_options so = session_options;
        mo.reserved[i] = so.reserved[i] = (uint64_t)1 << (i * 9);
        refuse_model(&mo);
        refuse_session(&so);
    }
    assert_non_null(strstr(sur_error_text(), SUR_VERSION));
}

static void test_skips(void **state)
{
    (void)state;
    static const short silence[1280];
    struct sur_session *s = open_session();
    struct sur_event e;
    refused(sur_session_skip(s, -1, SUR_SKIP_GAP));
    refused(sur_session_skip(s, INT64_MIN, SUR_SKIP_GAP));
    refused(sur_session_skip(s, INT64_MAX, SUR_SKIP_GAP));
    refused(sur_session_skip(s, SUR_MAX_SKIP + 1, SUR_SKIP_GAP));
    refused(sur_session_skip(s, 1, (enum sur_skip_reason)77));
    refused(sur_session_skip(s, 1, (enum sur_skip_reason) - 1));
    assert_int_equal(sur_session_skip(s, SUR_MAX_SKIP - 5, SUR_SKIP_GAP), SUR_OK);
    refused(sur_session_skip(s, 6, SUR_SKIP_GAP)); /* the sum is bounded */
    assert_int_equal(sur_session_skip(s, 5, SUR_SKIP_LAG), SUR_OK);
    assert_int_equal(sur_session_feed(s, silence, 1280), 1280);
    sur_session_finish(s);
    int64_t skipped = 0;
    for (int r = SUR_OK; r == SUR_OK;) {
        r = sur_session_run(s);
        while (sur_session_poll(s, &e) == SUR_OK) {
            if (e.type == SUR_EVENT_SKIP) skipped += e.t1 - e.t0;
            if (e.type == SUR_EVENT_END) assert_int_equal(e.t1, SUR_MAX_SKIP + 1280);
            for (int i = 0; i < 8; i++) assert_int_equal(e.reserved[i], 0);
        }
    }
    assert_int_equal(skipped, SUR_MAX_SKIP);
    sur_session_destroy(&s);
}

/* A loop that goes on while the call says SUR_OK must end. */
static void test_counts(void **state)
{
    (void)state;
    static const int bad[] = {0, -1, INT_MIN};
    struct sur_session *s = open_session();
    for (int i = 0; i < 3; i++) {
        refused(sur_session_encode(s, bad[i]));
        refused(sur_session_decode(s, bad[i]));
    }
    assert_int_equal(sur_session_encode(s, INT_MAX), SUR_OK); /* the left pad */
    float out[4];
    refused((int)sur_session_stage(s, "rows", INT64_MAX, out, SIZE_MAX));
    refused((int)sur_session_stage(s, "rows", INT64_MIN, out, SIZE_MAX));
    refused((int)sur_session_stage(s, "nonsense", 0, out, 4));
    struct sur_session_stats stats;
    sur_session_get_stats(s, &stats);
    const int64_t n = stats.tokens_encoded;
    refused((int)sur_session_stage(s, "rows", n + 1, out, SIZE_MAX));
    assert_int_equal(sur_session_stage(s, "rows", n, out, SIZE_MAX), 0);
    static float rows[2 * 65536];
    const int64_t dim = sur_session_stage(s, "rows", n - 1, rows, SIZE_MAX);
    assert_true(dim > 4);
    assert_int_equal(sur_session_stage(s, "rows", n - 4, rows, 2 * (size_t)dim + 1), 2 * dim);
    assert_int_equal(sur_session_stage(s, "rows", n - 4, out, 4), 0);
    sur_session_destroy(&s);
}

/* A machine with more processors than cpu_set_t has bits: the kernel refuses a smaller mask. Replaces the C
 * library's function. */
static int machine_cores; /* 0: this machine's, whatever it has: say 2 */

int sched_getaffinity(pid_t pid, size_t n_bytes, cpu_set_t *set)
{
    (void)pid;
    memset(set, 0, n_bytes);
    if (machine_cores == 0) {
        CPU_SET_S(0, n_bytes, set);
        CPU_SET_S(1, n_bytes, set);
        return 0;
    }
    if (n_bytes * 8 < (size_t)machine_cores) {
        errno = EINVAL;
        return -1;
    }
    for (int i = 1; i <= 3; i++) CPU_SET_S((size_t)(machine_cores - i), n_bytes, set);
    return 0;
}

static int count_threads(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/task");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

/* A thread that was joined may be listed for a moment more. */
static void expect_threads(int n)
{
    for (int i = 0; i < 3000 && count_threads() != n; i++) usleep(10000);
    assert_int_equal(count_threads(), n);
}

static void keep_warning(void *user, enum sur_log_level level, const char *line)
{
    if (level == SUR_LOG_WARN && strstr(line, "cores")) ++*(int *)user;
}

static void test_many_cores(void **state)
{
    (void)state;
    static const int cores[] = {2000, 8192, 100000};
    int warnings = 0;
    const int before = count_threads(); /* with the worker of the model that is open */
    struct sur_model_options o = model_options;
    sur_set_log(SUR_LOG_WARN, keep_warning, &warnings);
    for (int i = 0; i < 3; i++) {
        struct sur_model *m = NULL;
        machine_cores = cores[i];
        assert_int_equal(sur_model_open(&m, &o), SUR_OK);
        expect_threads(before + 1);
        assert_int_equal(warnings, 0);
        sur_model_close(&m);
    }
    struct sur_model *m = NULL;
    machine_cores = INT_MAX; /* more than any mask that is tried */
    assert_int_equal(sur_model_open(&m, &o), SUR_OK);
    assert_int_equal(warnings, 1);
    sur_model_close(&m);
    sur_set_log(SUR_LOG_ERROR, NULL, NULL);
    machine_cores = 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) return fprintf(stderr, "usage: test_api MODEL\n"), 2;
    sur_model_options_init(&model_options);
    model_options.dir = argv[1];
    model_options.backend = SUR_BACKEND_CPU;
    sur_session_options_init(&session_options);
    if (sur_model_open(&model, &model_options)) return fprintf(stderr, "%s\n", sur_error_text()), 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_null),     cmocka_unit_test(test_options),
                                       cmocka_unit_test(test_reserved), cmocka_unit_test(test_skips),
                                       cmocka_unit_test(test_counts),   cmocka_unit_test(test_many_cores)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sur_model_close(&model);
    return failed;
}
