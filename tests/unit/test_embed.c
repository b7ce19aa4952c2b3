/* The library as a guest in another program: it leaves signals alone, survives dlclose, and a fork's child gets errors
 * instead of hanging. Arguments: the shared library, a tiny model's folder. */
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "surtitle.h"

static const char *library_path, *model_folder;

/* The library's calls, by dlsym. */
static struct {
    void *handle;
    __typeof__(sur_model_options_init) *model_options_init;
    __typeof__(sur_model_open) *model_open;
    __typeof__(sur_model_close) *model_close;
    __typeof__(sur_model_fault) *model_fault;
    __typeof__(sur_session_options_init) *session_options_init;
    __typeof__(sur_session_create) *session_create;
    __typeof__(sur_session_destroy) *session_destroy;
    __typeof__(sur_session_feed) *session_feed;
    __typeof__(sur_session_finish) *session_finish;
    __typeof__(sur_session_run) *session_run;
    __typeof__(sur_session_poll) *session_poll;
    __typeof__(sur_error_text) *error_text;
} sur;

static void find(void *field, const char *name)
{
    void *symbol = dlsym(sur.handle, name);
    if (!symbol) fail_msg("%s: %s", name, dlerror());
    memcpy(field, &symbol, sizeof symbol);
}

static void load(void)
{
    sur.handle = dlopen(library_path, RTLD_NOW | RTLD_LOCAL);
    if (!sur.handle) fail_msg("%s", dlerror());
    find(&sur.model_options_init, "sur_model_options_init");
    find(&sur.model_open, "sur_model_open");
    find(&sur.model_close, "sur_model_close");
    find(&sur.model_fault, "sur_model_fault");
    find(&sur.session_options_init, "sur_session_options_init");
    find(&sur.session_create, "sur_session_create");
    find(&sur.session_destroy, "sur_session_destroy");
    find(&sur.session_feed, "sur_session_feed");
    find(&sur.session_finish, "sur_session_finish");
    find(&sur.session_run, "sur_session_run");
    find(&sur.session_poll, "sur_session_poll");
    find(&sur.error_text, "sur_error_text");
}

static struct sur_model *open_model(const char *folder)
{
    struct sur_model_options o;
    struct sur_model *m = NULL;
    sur.model_options_init(&o);
    o.dir = folder;
    o.backend = SUR_BACKEND_CPU;
    o.threads = 4;
    if (sur.model_open(&m, &o)) fail_msg("%s", sur.error_text());
    return m;
}

static struct sur_session *open_session(struct sur_model *m)
{
    struct sur_session_options o;
    struct sur_session *s = NULL;
    sur.session_options_init(&o);
    if (sur.session_create(&s, m, &o)) fail_msg("%s", sur.error_text());
    return s;
}

/* Half a second through the model: SUR_END, or the first failure. */
static int run(struct sur_session *s)
{
    static const short silence[8000];
    struct sur_event e;
    int r;
    sur.session_feed(s, silence, 8000);
    sur.session_finish(s);
    while ((r = sur.session_run(s)) == SUR_OK)
        while (sur.session_poll(s, &e) == SUR_OK) continue;
    return r;
}

static void host_handler(int number)
{
    _exit(42);
}

/* Touches a mapped file of the host's own behind its end. */
static void fault_of_the_host(void)
{
    char name[] = "/tmp/sur-embed-XXXXXX";
    int fd = mkstemp(name);
    if (fd < 0 || unlink(name) || ftruncate(fd, 65536)) _exit(90);
    const volatile char *bytes = mmap(NULL, 65536, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED || ftruncate(fd, 0)) _exit(91);
    _exit(92 + bytes[60000]);
}

/* What a child does; no cmocka in it. */
static int status_of(void (*child)(void))
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        for (int i = 1; i < 32; i++) signal(i, SIG_DFL); /* cmocka has handlers of its own */
        alarm(60);
        child();
        _exit(99);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void child_dlclose(void)
{
    struct sigaction is;
    load();
    struct sur_model *m = open_model(model_folder);
    for (int i = 1; i < 32; i++)
        if (sigaction(i, NULL, &is) == 0 && is.sa_handler != SIG_DFL && i != SIGKILL && i != SIGSTOP) _exit(80);
    sur.model_close(&m);
    signal(SIGBUS, host_handler);
    for (int i = 0; i < 100; i++) {
        load();
        m = open_model(model_folder);
        sur.model_close(&m);
        if (m || dlclose(sur.handle)) _exit(81);
    }
    fault_of_the_host();
}

static void test_dlclose(void **state)
{
    (void)state;
    assert_int_equal(status_of(child_dlclose), 42);
}

/* ---- a model that is cut under a program that handles SIGBUS, and under one that does not ---- */

static char cut_folder[64];

static void copy(const char *name)
{
    char from[512], to[512];
    static char block[1 << 16];
    snprintf(from, sizeof from, "%s/%s", model_folder, name);
    snprintf(to, sizeof to, "%s/%s", cut_folder, name);
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    assert_true(in && out);
    for (size_t n; (n = fread(block, 1, sizeof block, in)) > 0;) assert_int_equal(fwrite(block, 1, n, out), n);
    fclose(in);
    assert_int_equal(fclose(out), 0);
}

static void tell_fault(int number, siginfo_t *info, void *context)
{
    const char *line = info->si_code == BUS_ADRERR ? sur.model_fault(info->si_addr) : NULL;
    if (!line) _exit(43);
    _exit(strstr(line, cut_folder) && strstr(line, "/consolidated.safetensors: the file was cut") ? 44 : 45);
}

static void cut_and_run(struct sigaction *action)
{
    char file[512];
    load();
    struct sur_session *s = open_session(open_model(cut_folder));
    sigaction(SIGBUS, action, NULL);
    snprintf(file, sizeof file, "%s/consolidated.safetensors", cut_folder);
    if (truncate(file, 4096)) _exit(83);
    run(s);
    _exit(84);
}

static void child_cut_handled(void)
{
    cut_and_run(&(struct sigaction){.sa_sigaction = tell_fault, .sa_flags = SA_SIGINFO});
}

static void child_cut_default(void)
{
    cut_and_run(&(struct sigaction){.sa_handler = SIG_DFL});
}

static void child_host_fault(void)
{
    load();
    open_model(model_folder);
    sigaction(SIGBUS, &(struct sigaction){.sa_sigaction = tell_fault, .sa_flags = SA_SIGINFO}, NULL);
    fault_of_the_host();
}

static void test_cut(void **state)
{
    (void)state;
    static const char *const names[] = {"params.json", "tekken.json", "consolidated.safetensors"};
    static void (*const children[])(void) = {child_cut_handled, child_cut_default, child_host_fault};
    static const int expected[] = {44, 128 + SIGBUS, 43};
    snprintf(cut_folder, sizeof cut_folder, "/tmp/sur-embed-XXXXXX");
    assert_non_null(mkdtemp(cut_folder));
    for (int i = 0; i < 3; i++) {
        for (int k = 0; k < 3; k++) copy(names[k]);
        assert_int_equal(status_of(children[i]), expected[i]);
    }
    for (int k = 0; k < 3; k++) {
        char file[512];
        snprintf(file, sizeof file, "%s/%s", cut_folder, names[k]);
        unlink(file);
    }
    rmdir(cut_folder);
}

/* ---- fork ---- */

static struct sur_model *inherited_model;
static struct sur_session *inherited_session;

static void child_uses_inherited(void)
{
    static const short silence[2000];
    struct sur_session *s = NULL;
    struct sur_session_options o;
    sur.session_options_init(&o);
    sur.session_feed(inherited_session, silence, 2000);
    if (sur.session_run(inherited_session) != SUR_ERR_ARGUMENT || !strstr(sur.error_text(), "fork")) _exit(70);
    if (sur.session_create(&s, inherited_model, &o) != SUR_ERR_ARGUMENT || s) _exit(71);
    sur.session_destroy(&inherited_session);
    sur.model_close(&inherited_model);
    if (inherited_session || inherited_model) _exit(72);
    /* its own works, workers and all */
    struct sur_model *m = open_model(model_folder);
    s = open_session(m);
    if (run(s) != SUR_END) _exit(73);
    sur.session_destroy(&s);
    sur.model_close(&m);
    _exit(m ? 74 : 0);
}

static void test_fork(void **state)
{
    (void)state;
    load();
    inherited_model = open_model(model_folder);
    inherited_session = open_session(inherited_model);
    assert_int_equal(status_of(child_uses_inherited), 0);
    assert_int_equal(run(inherited_session), SUR_END); /* the parent's is as good as before */
    sur.session_destroy(&inherited_session);
    sur.model_close(&inherited_model);
}

int main(int argc, char **argv)
{
    if (argc != 3) return fprintf(stderr, "usage: test_embed LIBRARY MODEL\n"), 2;
    library_path = argv[1];
    model_folder = argv[2];
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_dlclose), cmocka_unit_test(test_cut),
                                       cmocka_unit_test(test_fork)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
