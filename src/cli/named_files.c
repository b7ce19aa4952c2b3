#include "cli/named_files.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/message.h"
#include "util/os_file.h"

enum { MAX_NAMED = 5, SHOWN_BYTES = 160 };

struct named {
    char shown[SHOWN_BYTES]; /* for the message: "--output talk.txt" */
    bool written;
    struct os_file file;
};

static void add(struct named *all, size_t *n, bool written, const char *option, const char *path)
{
    struct named *f = &all[*n];
    if (!path) return;
    snprintf(f->shown, sizeof f->shown, "%s %.120s", option, path);
    f->written = written;
    if (os_file_find(&f->file, path)) (*n)++;
}

static void add_descriptor(struct named *all, size_t *n, bool written, const char *shown, int descriptor)
{
    struct named *f = &all[*n];
    snprintf(f->shown, sizeof f->shown, "%s", shown);
    f->written = written;
    os_file_of_descriptor(&f->file, descriptor);
    (*n)++;
}

/* Outputs may share a terminal, a pipe or /dev/null, where nothing is overwritten. */
static bool collide(const struct named *a, const struct named *b)
{
    if ((!a->written && !b->written) || !os_file_same(&a->file, &b->file)) return false;
    if (a->file.kind == OS_FILE_NEW || S_ISREG(a->file.mode) || S_ISBLK(a->file.mode)) return true;
    return S_ISFIFO(a->file.mode) && a->written != b->written;
}

static int refuse(const char *a, const char *b)
{
    message_error("%s and %s are the same file; name another one", a, b);
    return SUR_ERR_ARGUMENT;
}

static bool ends(const char *path, const char *with)
{
    size_t n = strlen(path), m = strlen(with);
    return n >= m && strcmp(path + n - m, with) == 0;
}

/* Whether the file is read as part of a model. Other files in the folder may be earlier transcripts. */
static bool is_part(const char *path)
{
    return ends(path, "/params.json") || ends(path, "/tekken.json") || ends(path, ".safetensors") ||
           ends(path, ".gguf");
}

static int check_model_file(const struct named *all, size_t n, const char *path)
{
    struct named model = {.written = false};
    snprintf(model.shown, sizeof model.shown, "the model's %.120s", path);
    if (!os_file_find(&model.file, path) || !S_ISREG(model.file.mode)) return SUR_OK;
    for (size_t i = 0; i < n; i++)
        if (collide(&all[i], &model)) return refuse(all[i].shown, model.shown);
    return SUR_OK;
}

static int check_model(const struct named *all, size_t n, const char *model)
{
    char path[PATH_MAX];
    int status = check_model_file(all, n, model);
    DIR *folder = opendir(model);
    if (!folder) return status;
    for (struct dirent *entry; status == SUR_OK && (entry = readdir(folder));)
        if (snprintf(path, sizeof path, "%s/%s", model, entry->d_name) < (int)sizeof path && is_part(path))
            status = check_model_file(all, n, path);
    closedir(folder);
    return status;
}

int named_files_check(const struct options *o, const char *model)
{
    struct named all[MAX_NAMED];
    size_t n = 0;
    if (o->source && strcmp(o->source, "-") == 0)
        add_descriptor(all, &n, false, "standard input", STDIN_FILENO);
    else
        add(all, &n, false, "SOURCE", o->source);
    add(all, &n, false, "--force", o->force);
    if (o->output)
        add(all, &n, true, "--output", o->output);
    else
        add_descriptor(all, &n, true, "standard output", STDOUT_FILENO);
    add(all, &n, true, "--caption-file", o->caption_file);
    add(all, &n, true, "--latency-report", o->latency_report);
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < i; k++)
            if (collide(&all[i], &all[k])) return refuse(all[i].shown, all[k].shown);
    return model ? check_model(all, n, model) : SUR_OK;
}
