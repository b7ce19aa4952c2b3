#include "gpu/session.h"

#include <stdlib.h>
#include <string.h>

#include "model/schedule.h"
#include "util/error.h"

/* kernels/launch.h, which nvcc reads, includes none of our headers, and so repeats these constants of backend.h. */
_Static_assert((int)SUR_GPU_ROW_RING == (int)SUR_ROW_RING, "rows of the adapter's ring");
_Static_assert((int)SUR_GPU_TOP == (int)SUR_TOP, "results of a step");
_Static_assert((int)SUR_GPU_SKINNY_COLUMNS == (int)SUR_STEP_MAX, "positions of a step");
_Static_assert(sizeof(((struct sur_gpu_top *)0)->id) == sizeof(((struct sur_step_out *)0)->top_id), "ids of a step");
_Static_assert(sizeof(((struct sur_gpu_top *)0)->value) == sizeof(((struct sur_step_out *)0)->top), "its logits");

/* ---- memory ---- */

static int larger(int a, int b)
{
    return a > b ? a : b;
}

/* Lays the session's own buffers out from base on; returns their size. */
static size_t lay_buffers(struct gpu_session *s, const struct sur_params *p, int max_tokens, CUdeviceptr base)
{
    size_t at = 0, frames = (size_t)max_tokens * SUR_TOKEN_FRAMES, dim = (size_t)p->decoder.dim;
    gpu_place(&at, base, &s->mel, (2 + frames) * (size_t)p->n_mels * 4 + sizeof(struct sur_gpu_request));
    gpu_place(&at, base, &s->conv0, (1 + frames) * (size_t)p->encoder.dim * 4);
    size_t columns = (size_t)larger(max_tokens, SUR_GPU_SKINNY_COLUMNS); /* fragments are always of 8 columns */
    gpu_place(&at, base, &s->adapter, columns * gpu_round_up(dim, SUR_GPU_PITCH) * 2 * 2);
    gpu_place(&at, base, &s->row_position, 8);
    gpu_place(&at, base, &s->rows, SUR_ROW_RING * dim * 4);
    gpu_place(&at, base, &s->logits, SUR_STEP_MAX * (size_t)p->vocab_size * 4);
    gpu_place(&at, base, &s->top, 2 * sizeof(struct sur_gpu_top_state));
    gpu_place(&at, base, &s->candidates, 1024 * SUR_STEP_MAX * SUR_GPU_TOP * 8);
    gpu_place(&at, base, &s->counter, 4);
    return at;
}

/* Products outside the layers: the stem's and the adapter's. Their sizes are given for SUR_TOKEN_FRAMES columns per
 * token, with room for each input's padding. */
static struct gpu_stack_size encoder_size(const struct sur_params *p, int max_tokens)
{
    int e = p->encoder.dim, d = p->decoder.dim;
    int conv0 = 3 * p->n_mels * SUR_TOKEN_FRAMES, conv1 = 3 * e * SUR_TOKEN_ROWS, adapter = larger(4 * e, d);
    return (struct gpu_stack_size){.max_n = max_tokens * SUR_TOKEN_ROWS,
                                   .columns = max_tokens * SUR_TOKEN_FRAMES,
                                   .k = larger(larger(conv0, conv1), adapter) / SUR_TOKEN_FRAMES + 2 * SUR_GPU_PITCH,
                                   .rows = larger(e, d / SUR_TOKEN_FRAMES + 1)};
}

static struct gpu_stack_size decoder_size(const struct sur_backend_session_options *o)
{
    return (struct gpu_stack_size){.max_n = larger(o->n_prompt, SUR_STEP_MAX), .slack = SUR_STEP_MAX};
}

/* --window-attention is for the encoder alone. */
static struct sur_model_options decoder_options(const struct sur_model_options *o)
{
    struct sur_model_options d = *o;
    d.window_attention = SUR_ATTENTION_OWN;
    return d;
}

size_t gpu_session_bytes(const struct sur_checkpoint *c, const struct sur_model_options *o,
                         const struct sur_backend_session_options *session)
{
    struct gpu_session s;
    const struct sur_params *p = &c->params;
    const struct gpu_stack_size e = encoder_size(p, session->max_tokens), d = decoder_size(session);
    const struct sur_model_options decoder = decoder_options(o);
    return lay_buffers(&s, p, session->max_tokens, 0) + gpu_stack_bytes(&p->encoder, o, &e) +
           gpu_stack_bytes(&p->decoder, &decoder, &d) + gpu_norms_bytes(&p->decoder);
}

static int allocate_pinned(struct gpu_session *s)
{
    const struct sur_params *p = &s->state->checkpoint->params;
    size_t frames = (size_t)s->progress.options.max_tokens * SUR_TOKEN_FRAMES;
    void *at = NULL;
    int r =
        gpu_allocate_host(&at, frames * (size_t)p->n_mels * sizeof *s->mel_in + sizeof(struct sur_gpu_request), true);
    s->mel_in = at;
    for (int i = 0; !r && i < 2; i++) {
        struct gpu_step *step = &s->steps[i];
        r = gpu_allocate_host(&at, sizeof *step->request + 4 * (size_t)s->decoder.max_n, true);
        step->request = at;
        if (!r) r = gpu_allocate_host(&at, SUR_STEP_MAX * sizeof *step->result, true);
        step->result = at;
    }
    return r;
}

/* ---- passes ---- */

/* The copy engine brings the frames, and the request behind them: a kernel that reads host memory waits half a
 * microsecond for every small piece. */
static void launch_begin(struct gpu_pass *pass, struct gpu_session *s, int n_tokens)
{
    const struct gpu_stack *k = &s->encoder;
    const struct sur_tower *e = k->tower->shape;
    size_t frame_bytes = (size_t)s->state->checkpoint->params.n_mels * sizeof *s->mel_in;
    size_t n_bytes = (size_t)n_tokens * SUR_TOKEN_FRAMES * frame_bytes;
    CUdeviceptr to = s->mel + 2 * frame_bytes;
    if (!pass->status)
        pass->status = CHECK(cuMemcpyHtoDAsync(to, s->mel_in, n_bytes + sizeof(struct sur_gpu_request), k->stream));
    struct sur_gpu_begin b = {.request = to + n_bytes,
                              .position = k->work.position,
                              .row_position = s->row_position,
                              .rotation = k->work.rotation,
                              .inv = k->tower->inv,
                              .n = pass->n,
                              .half = e->head_dim / 2};
    struct sur_gpu_launch l = {{(unsigned)pass->n, 1, 1}, 256, 0};
    gpu_pass_launch(pass, GPU_BEGIN, &l, &b);
}

/* Mel frames to the first layer's input; then the last frames are kept for the next pass (k_carry). */
static void launch_stem(struct gpu_pass *pass, struct gpu_session *s, int n_tokens)
{
    const struct gpu_weights *w = &s->state->weights;
    int n_mels = s->state->checkpoint->params.n_mels, e = s->encoder.tower->shape->dim;
    int frames = n_tokens * SUR_TOKEN_FRAMES;
    struct gpu_product conv0 = {SUR_GPU_GELU, w->others, &w->conv0, .n = frames};
    conv0.in = (struct sur_gpu_input){.x = s->mel, .stride = n_mels, .taps = 1};
    conv0.out = (struct sur_gpu_output){.y = s->conv0 + (size_t)e * 4, .bias = w->others + w->conv0_bias, .stride = e};
    gpu_pass_product(pass, &conv0);
    struct gpu_product conv1 = {SUR_GPU_GELU, w->others, &w->conv1, .n = frames / 2};
    conv1.in = (struct sur_gpu_input){.x = s->conv0, .stride = e, .taps = 2};
    conv1.out = gpu_pass_to_h(pass, gpu_pass_norm(&s->encoder, 0, false));
    conv1.out.bias = w->others + w->conv1_bias;
    gpu_pass_product(pass, &conv1);
    struct sur_gpu_carry carry = {.mel = s->mel, .conv0 = s->conv0, .n_mels = n_mels, .e = e, .n_frames = frames};
    struct sur_gpu_launch l = {{1, 1, 1}, 1024, 0};
    gpu_pass_launch(pass, GPU_CARRY, &l, &carry);
}

static void launch_adapter(struct gpu_pass *pass, struct gpu_session *s, int n_tokens)
{
    const struct gpu_weights *w = &s->state->weights;
    const struct sur_tower *e = s->encoder.tower->shape;
    int dim = s->state->checkpoint->params.decoder.dim;
    struct gpu_product first = {SUR_GPU_GELU, w->others, &w->adapter0, .n = n_tokens};
    first.in = (struct sur_gpu_input){.x = s->encoder.work.h,
                                      .norm = gpu_pass_norm(&s->encoder, e->n_layers, false),
                                      .stride = 4 * e->dim, /* four frames are one column */
                                      .norm_k = e->dim,
                                      .eps = (float)e->norm_eps};
    const int pitch = w->adapter2.pitch;
    first.out = (struct sur_gpu_output){.hi = s->adapter, .pitch = pitch};
    if (!gpu_pass_is_skinny(pass, n_tokens)) first.out.lo = gpu_low_half(s->adapter, n_tokens, pitch);
    gpu_pass_product(pass, &first);
    struct gpu_product second = {SUR_GPU_ROWS, w->others, &w->adapter2, .hi = first.out.hi, .n = n_tokens};
    second.out = (struct sur_gpu_output){.y = s->rows, .position = s->row_position, .stride = dim};
    gpu_pass_product(pass, &second);
}

static int launch_encode(struct gpu_session *s, int n_tokens)
{
    struct gpu_pass pass = {&s->encoder, n_tokens * SUR_TOKEN_ROWS, .fresh = true};
    launch_begin(&pass, s, n_tokens);
    launch_stem(&pass, s, n_tokens);
    gpu_pass_tower(&pass);
    launch_adapter(&pass, s, n_tokens);
    return pass.status;
}

/* The first logits of a step. Each of the two steps of one position has its own. */
static CUdeviceptr logits_of(const struct gpu_session *s, const struct gpu_step *step)
{
    return s->logits + (size_t)(step - s->steps) * (size_t)s->state->checkpoint->params.vocab_size * 4;
}

/* Logits of the last n_out columns, and the best four of each. */
static void launch_head(struct gpu_pass *pass, struct gpu_session *s, const struct gpu_step *step, int n_out)
{
    const struct gpu_weights *w = &s->state->weights;
    const struct gpu_stack *k = &s->decoder;
    const struct sur_tower *d = k->tower->shape;
    size_t column = (size_t)(pass->n - n_out);
    struct gpu_product head = {SUR_GPU_HEAD, w->others, &w->embedding, .eps = (float)d->norm_eps, .n = n_out};
    if (pass->h_is_split) {
        head.hi = k->work.fragments + column * SUR_GPU_FRAGMENT * 2;
        head.squares = k->work.squares + column * (((size_t)d->dim + 7) / 8) * 4;
    } else {
        head.in = (struct sur_gpu_input){.x = k->work.h + column * (size_t)d->dim * 4,
                                         .norm = gpu_pass_norm(k, d->n_layers, false),
                                         .stride = d->dim,
                                         .norm_k = d->dim,
                                         .eps = (float)d->norm_eps};
    }
    int vocab = s->state->checkpoint->params.vocab_size;
    const CUdeviceptr top = s->top + (size_t)(step - s->steps) * sizeof(struct sur_gpu_top_state);
    head.out = (struct sur_gpu_output){.y = logits_of(s, step), .stride = vocab, .top = top};
    gpu_pass_product(pass, &head);
}

static int launch_step(struct gpu_session *s, const struct gpu_step *step, int n, int n_out)
{
    const struct gpu_weights *w = &s->state->weights;
    struct gpu_stack *k = &s->decoder;
    const struct sur_tower *d = k->tower->shape;
    struct gpu_pass pass = {k, n, .fresh = true};
    const struct gpu_step *other = &s->steps[step == s->steps];
    struct sur_gpu_embed embed = {.request = (uintptr_t)step->request,
                                  .before = (uintptr_t)other->result->id,
                                  .rows = s->rows,
                                  .embedding = w->others + w->embedding.offset,
                                  .h = k->work.h,
                                  .position = k->work.position,
                                  .rotation = k->work.rotation,
                                  .inv = k->tower->inv,
                                  .dim = d->dim,
                                  .pitch = w->embedding.pitch,
                                  .n = n,
                                  .half = d->head_dim / 2};
    struct sur_gpu_launch l = {{(unsigned)n, 1, 1}, 256, 0};
    if (gpu_pass_is_skinny(&pass, n)) {
        const struct sur_gpu_output h = gpu_pass_to_h(&pass, gpu_pass_norm(k, 0, false));
        embed.norm = h.norm;
        embed.hi = h.hi;
        embed.squares = h.squares;
    }
    gpu_pass_launch(&pass, GPU_EMBED, &l, &embed);
    gpu_pass_tower(&pass);
    if (n_out) launch_head(&pass, s, step, n_out);
    return pass.status;
}

/* Records a pass as a graph: an encoder pass of n_tokens tokens, or (step not NULL) a step of one position. */
static int record_graph(CUgraphExec *graph, struct gpu_session *s, int n_tokens, const struct gpu_step *step)
{
    CUgraph recorded = NULL;
    CUstream stream = step ? s->decoder.stream : s->encoder.stream;
    int r = CHECK(cuStreamBeginCapture(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    if (r) return r;
    r = step ? launch_step(s, step, 1, 1) : launch_encode(s, n_tokens);
    CUresult end = cuStreamEndCapture(stream, &recorded);
    if (!r) r = gpu_check(end, "cuStreamEndCapture");
    if (!r) r = CHECK(cuGraphInstantiate(graph, recorded, 0));
    if (!r) r = CHECK(cuGraphUpload(*graph, stream));
    if (recorded) cuGraphDestroy(recorded);
    return r;
}

static int finish_pass(struct gpu_session *s, const struct gpu_stack *k, int r)
{
    CUresult e = cuStreamSynchronize(k->stream);
    const struct gpu_tower *t = k->tower;
    long long n = t->shape->n_layers - t->n_resident;
    atomic_fetch_add_explicit(&s->state->uploads, n, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->state->uploaded_bytes, n * (long long)t->plan.n_bytes, memory_order_relaxed);
    return r ? r : gpu_check(e, "a pass on the GPU");
}

int gpu_run_encode(struct gpu_session *s, int n_tokens, int64_t first_row)
{
    bool shared = s->encoder.copy;
    struct sur_gpu_request request = {.first = first_row * SUR_TOKEN_ROWS, .first_row = first_row};
    size_t n_mels = (size_t)s->state->checkpoint->params.n_mels;
    memcpy(s->mel_in + (size_t)n_tokens * SUR_TOKEN_FRAMES * n_mels, &request, sizeof request);
    int r = gpu_enter(&s->state->gpu);
    if (r) return r;
    if (shared) pthread_mutex_lock(&s->state->encoder_slots);
    const int most = s->progress.options.max_tokens;
    CUgraphExec graph = n_tokens == 1 ? s->encode_graph : n_tokens == most ? s->whole_graph : NULL;
    r = graph ? CHECK(cuGraphLaunch(graph, s->encoder.stream)) : launch_encode(s, n_tokens);
    r = finish_pass(s, &s->encoder, r);
    if (shared) pthread_mutex_unlock(&s->state->encoder_slots);
    return r;
}

/* A step of several positions, or with layers that are not resident. */
static int run_positions(struct gpu_session *s, int64_t first, int n, const int32_t *tokens, int n_out)
{
    struct gpu_step *step = &s->steps[0];
    bool shared = s->decoder.copy;
    int r = s->is_ahead ? CHECK(cuStreamSynchronize(s->decoder.stream)) : SUR_OK;
    s->is_ahead = false;
    if (r) return r;
    step->request->first = first;
    memcpy(step->request->tokens, tokens, (size_t)n * sizeof *tokens);
    if (shared) pthread_mutex_lock(&s->state->decoder_slots);
    r = n == 1 && n_out == 1 && step->graph ? CHECK(cuGraphLaunch(step->graph, s->decoder.stream))
                                            : launch_step(s, step, n, n_out);
    r = finish_pass(s, &s->decoder, r);
    if (shared) pthread_mutex_unlock(&s->state->decoder_slots);
    return r;
}

/* Launches a step of one position. token below 0: the one that the other step gives. */
static int begin_step(struct gpu_session *s, const struct gpu_step *step, int64_t first, int32_t token)
{
    step->request->first = first;
    step->request->tokens[0] = token;
    int r = CHECK(cuGraphLaunch(step->graph, s->decoder.stream));
    return r ? r : CHECK(cuEventRecord(step->done, s->decoder.stream));
}

/* One position. So that the GPU does not wait for the host between two steps, the next step is begun before this one's
 * result is waited for; it takes the token that this one gives. A caller that then steps with another token loses one
 * step's time; after MISSES_MOST of those no step is begun ahead any more. */
static int run_one_step(struct gpu_session *s, const struct gpu_step **used, int64_t first, int32_t token)
{
    enum { MISSES_MOST = 4 };
    const bool hit = s->is_ahead && s->ahead_position == first && token == s->last_token;
    const bool miss = s->is_ahead && !hit;
    const int i = miss ? !s->next_step : s->next_step;
    const struct gpu_step *step = &s->steps[i];
    int r = hit ? SUR_OK : begin_step(s, step, first, token);
    s->n_misses += miss;
    /* not right after a miss: steps[!i] may still be running it */
    s->is_ahead = !r && !miss && s->n_misses < MISSES_MOST && sur_progress_n_rows(s) > first + 1;
    s->next_step = !i;
    s->ahead_position = first + 1;
    if (s->is_ahead) r = begin_step(s, &s->steps[!i], first + 1, -1);
    CUresult e = cuEventSynchronize(step->done);
    *used = step;
    if (!r) return gpu_check(e, "a pass on the GPU");
    cuStreamSynchronize(s->decoder.stream); /* a graph may have been launched whose event was not recorded */
    s->is_ahead = false;
    return r;
}

int gpu_run_step(struct gpu_session *s, int64_t first, int n, const int32_t *tokens, int n_out,
                 const struct sur_gpu_top **result)
{
    const struct gpu_step *step = &s->steps[0];
    int r = gpu_enter(&s->state->gpu);
    if (r) return r;
    if (n == 1 && n_out == 1 && !s->decoder.copy && s->steps[1].graph)
        r = run_one_step(s, &step, first, tokens[0]);
    else
        r = run_positions(s, first, n, tokens, n_out);
    if (result) *result = step->result;
    const size_t column = (size_t)s->state->checkpoint->params.vocab_size * 4;
    s->last_logits = n_out && !r ? logits_of(s, step) + (size_t)(n_out - 1) * column : 0;
    if (n_out && !r) s->last_token = step->result[n_out - 1].id[0];
    return r;
}

/* NVIDIA's libraries load their kernels on first use, which is not allowed while a graph is recorded: runs each kind of
 * pass once. */
static int warm(struct gpu_session *s)
{
    const struct sur_model_options *o = &s->state->options;
    if (o->gemm == SUR_GEMM_OWN && o->window_attention == SUR_ATTENTION_OWN) return SUR_OK;
    int r = gpu_run_encode(s, 1, 0);
    if (!r && s->progress.options.max_tokens > 1) r = gpu_run_encode(s, s->progress.options.max_tokens, 0);
    const int32_t token = 0;
    return r ? r : gpu_run_step(s, 0, 1, &token, 1, NULL);
}

/* ---- create, destroy ---- */

void gpu_session_destroy(void *session)
{
    struct gpu_session *s = session;
    if (!s) return;
    gpu_enter_to_free(&s->state->gpu);
    if (s->encode_graph) cuGraphExecDestroy(s->encode_graph);
    if (s->whole_graph) cuGraphExecDestroy(s->whole_graph);
    gpu_stack_finish(&s->encoder);
    gpu_stack_finish(&s->decoder);
    gpu_norms_release(&s->state->norms, s->norms); /* both streams have ended */
    gpu_free(&s->state->gpu, &s->memory, s->n_bytes);
    for (int i = 0; i < 2; i++) {
        if (s->steps[i].graph) cuGraphExecDestroy(s->steps[i].graph);
        if (s->steps[i].done) cuEventDestroy(s->steps[i].done);
    }
    void *pinned[] = {s->mel_in, s->steps[0].request, s->steps[0].result, s->steps[1].request, s->steps[1].result};
    for (size_t i = 0; i < sizeof pinned / sizeof *pinned; i++) gpu_free_host(&pinned[i]);
    free(s);
}

int gpu_session_reset(void *session)
{
    struct gpu_session *s = session;
    const struct sur_params *p = &s->state->checkpoint->params;
    int r = gpu_enter(&s->state->gpu);
    /* Never waits for the whole context: that fails, and breaks the recording, while another thread records a graph. */
    if (!r) r = CHECK(cuMemsetD8Async(s->mel, 0, 2 * (size_t)p->n_mels * 4, s->encoder.stream));
    if (!r) r = CHECK(cuMemsetD8Async(s->conv0, 0, (size_t)p->encoder.dim * 4, s->encoder.stream));
    if (!r) r = CHECK(cuStreamSynchronize(s->encoder.stream));
    if (s->is_ahead) cuStreamSynchronize(s->decoder.stream);
    s->is_ahead = false;
    s->n_misses = 0;
    s->last_logits = 0;
    sur_progress_reset(&s->progress);
    if (!r) r = gpu_stack_randomize(&s->encoder, s->progress.options.start * SUR_TOKEN_ROWS);
    if (!r) r = gpu_stack_randomize(&s->decoder, s->progress.options.start);
    return r;
}

static int create_parts(struct gpu_session *s)
{
    struct gpu_state *st = s->state;
    const struct sur_params *p = &st->checkpoint->params;
    const struct sur_backend_session_options *o = &s->progress.options;
    const struct gpu_stack_size e = encoder_size(p, o->max_tokens), d = decoder_size(o);
    const struct sur_model_options decoder = decoder_options(&st->options);
    int r = gpu_norms_acquire(&s->norms, &st->norms, o->delay);
    if (!r)
        r = gpu_stack_init(&s->encoder, &st->gpu, &st->weights.encoder, st->weights.encoder.norms, &st->options, &e);
    if (!r) r = gpu_stack_init(&s->decoder, &st->gpu, &st->weights.decoder, s->norms->at, &decoder, &d);
    s->n_bytes = lay_buffers(s, p, o->max_tokens, 0);
    if (!r) r = gpu_allocate(&st->gpu, &s->memory, s->n_bytes, true);
    lay_buffers(s, p, o->max_tokens, s->memory);
    if (!r) r = allocate_pinned(s);
    if (r) return r;
    const struct sur_gpu_top_state tops[2] = {{s->candidates, s->counter, (uintptr_t)s->steps[0].result},
                                              {s->candidates, s->counter, (uintptr_t)s->steps[1].result}};
    r = CHECK(cuMemcpyHtoD(s->top, tops, sizeof tops));
    /* wait for the clears and copies so far: the session's streams do not wait for the default one */
    if (!r) r = CHECK(cuStreamSynchronize(CU_STREAM_LEGACY));
    if (!r) r = warm(s);
    if (!r) r = gpu_session_reset(s);
    if (!r) r = record_graph(&s->encode_graph, s, 1, NULL);
    if (!r && o->max_tokens > 1) r = record_graph(&s->whole_graph, s, o->max_tokens, NULL);
    for (int i = 0; !r && i < 2; i++) {
        struct gpu_step *step = &s->steps[i];
        r = CHECK(cuEventCreate(&step->done, CU_EVENT_DISABLE_TIMING));
        if (!r) r = record_graph(&step->graph, s, 0, step);
    }
    return r;
}

int gpu_session_create(void **session, void *state, const struct sur_backend_session_options *o)
{
    struct gpu_state *st = state;
    *session = NULL;
    int r = gpu_enter(&st->gpu);
    if (r) return r;
    struct gpu_session *s = calloc(1, sizeof *s);
    if (!s) return sur_fail(SUR_ERR_MEMORY, "not enough memory for a session");
    s->state = st;
    sur_progress_init(&s->progress, &st->checkpoint->params, o);
    r = create_parts(s);
    if (r)
        gpu_session_destroy(s);
    else
        *session = s;
    return r;
}
