#include "cpu/matrix.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "cpu/os_memory.h"
#include "util/error.h"

/* A worker takes 128 rows at a time: whole heads, so that it reads each page of the file once in either order of rows.
 */
enum { ALIGNMENT = 64, TILES = 8 };

void sur_cpu_matrix_row(const struct sur_cpu_matrix *m, int r, float *out)
{
    if (sur_cpu_matrix_packed(m))
        sur_packed_row(&m->packed, r, out);
    else
        sur_dequantise_row(m->view->type, sur_view_row(m->view, r), m->view->cols, out);
}

static size_t room(const struct sur_packed *p)
{
    return (sur_packed_bytes(p) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static int n_tiles(const struct sur_packed *p)
{
    return (p->rows + SUR_TILE_ROWS - 1) / SUR_TILE_ROWS;
}

struct packing {
    struct sur_cpu_matrix *const *matrices;
    int n;
    atomic_int next;  /* matrix */
    atomic_int *tile; /* [n] next tile of each matrix */
};

/* Workers share the tiles of one matrix, then go on to the next: the file is read in its order. */
static void pack_part(void *arg, int part, int n_parts)
{
    struct packing *p = arg;
    for (int i; (i = atomic_load(&p->next)) < p->n;) {
        const struct sur_packed *to = &p->matrices[i]->packed;
        int t = to->data ? atomic_fetch_add(&p->tile[i], TILES) : 0, end = n_tiles(to);
        if (!to->data || t >= end) {
            atomic_compare_exchange_strong(&p->next, &i, i + 1);
            continue;
        }
        end = t + TILES < end ? t + TILES : end;
        const struct sur_view *v = p->matrices[i]->view;
        const int row = t * SUR_TILE_ROWS, left = v->rows - row, wanted = (end - t) * SUR_TILE_ROWS;
        sur_packed_fill(to, v, t, end);
        sur_memory_forget((const char *)v->data + (size_t)row * v->row_bytes,
                          (size_t)(wanted < left ? wanted : left) * v->row_bytes);
    }
}

int sur_cpu_arena_pack(struct sur_cpu_arena *arena, struct sur_cpu_matrix *const *matrices, int n,
                       struct sur_pool *pool)
{
    const uint64_t have = sur_memory_available();
    size_t n_bytes = 0, at = 0;
    for (int i = 0; i < n; i++) {
        const struct sur_view *v = matrices[i]->view;
        if (!sur_weight_quantised(v->type)) continue;
        sur_packed_describe(&matrices[i]->packed, v->type, v->rows, v->cols);
        n_bytes += room(&matrices[i]->packed);
    }
    if (n_bytes == 0) return SUR_OK;
    if (n_bytes >= have)
        return sur_fail(SUR_ERR_BACKEND, "the model's weights need %llu MiB of memory; %llu MiB are free",
                        (unsigned long long)n_bytes >> 20, (unsigned long long)have >> 20);
    atomic_int *tile = calloc((size_t)n, sizeof *tile);
    arena->memory = tile ? sur_memory_get(n_bytes) : NULL;
    if (!arena->memory) {
        free(tile);
        return sur_fail(SUR_ERR_MEMORY, "not enough memory for the model's weights, which need %llu MiB",
                        (unsigned long long)n_bytes >> 20);
    }
    arena->n_bytes = n_bytes;
    for (int i = 0; i < n; i++) {
        struct sur_packed *p = &matrices[i]->packed;
        if (!sur_weight_quantised(matrices[i]->view->type)) continue;
        p->data = (uint8_t *)arena->memory + at;
        at += room(p);
    }
    struct packing p = {.matrices = matrices, .n = n, .tile = tile};
    sur_pool_run(pool, pack_part, &p);
    free(tile);
    return SUR_OK;
}

void sur_cpu_arena_finish(struct sur_cpu_arena *arena)
{
    sur_memory_release(arena->memory, arena->n_bytes);
    *arena = (struct sur_cpu_arena){0};
}
