/* The skinny product: y = W x for 1 to 8 columns. Its speed is that of reading W once (docs/kernels.md has drawings).
 *
 * Each warp copies its weights ahead into slots of shared memory that it alone uses. It begins before the kernel is
 * allowed to read what the kernel before wrote. It holds the input of one segment in registers and multiplies one tile
 * after another by it. After each round of tiles the block adds the segments' sums, which meet in shared memory, and
 * writes the outputs. A block takes nearly all registers and shared memory of its multiprocessor, so it can begin as
 * soon as the block before has left that multiprocessor, not only when the whole kernel before has ended. */
#include "common.cuh"
#include "skinny.h"

#define MAX_COLUMNS SUR_GPU_SKINNY_COLUMNS

/* ---- what each warp computes ---- */

/* A warp's part of the block's work: segments of k, and tiles of rows. With more segments than warps a warp has every
 * segment_step-th segment and all tiles; otherwise one segment and every ways-th tile. */
template <int EPILOGUE> struct warp_work {
    static constexpr bool TWO = EPILOGUE == SUR_GPU_SWIGLU; /* a tile has a group of w and the same group of w_up */
    static constexpr int GROUPS = TWO ? 1 : 2;              /* of rows per tile; SWIGLU: pairs */
    int groups, tiles;                                      /* of the block; tiles is 0 for a warp without work */
    int segments, segment0, segment_step, way, ways, tiles_per_round;

    DEVICE_MEMBER warp_work(const sur_gpu_product &p)
    {
        const int warp = warp_index();
        segments = p.skinny.segments;
        ways = p.skinny.ways;
        tiles_per_round = p.skinny.tiles_per_round;
        groups = p.skinny.rounds_dealt + (blockIdx.x < p.skinny.left_over);
        tiles = (groups + GROUPS - 1) / GROUPS;
        way = warp * p.skinny.per_segment >> 16;
        segment0 = warp - way * segments;
        segment_step = ways > 1 ? segments : p.skinny.warps;
        if (way >= ways || segment0 >= segments || warp >= p.skinny.warps) tiles = 0;
    }
    DEVICE_MEMBER int end_of_round(int round0) const { return min(tiles, round0 + tiles_per_round); }
    DEVICE_MEMBER bool is_whole(int tile) const { return TWO || 2 * tile + 1 < groups; }
};

/* Row r of the block's group: block b has groups b, b + gridDim.x, ... of the matrix. */
DEVICE int row_of(int group, int r)
{
    return (group * gridDim.x + blockIdx.x) * 8 + r;
}

/* ---- weights ---- */

/* A warp's slots, and the weights that it copies next: by rounds, in a round by segments, in a segment by tiles. */
template <int EPILOGUE> struct weight_slots {
    uint32_t slots, barriers, n_slots;
    uint32_t fill, oldest, parity; /* the slot to fill next, the oldest filled one; the parity of its barrier's phase */
    const char *next;              /* the next tile's lower half */
    int round0, segment, tile, end; /* the next tile; tile >= end: all is copied */

    DEVICE_MEMBER weight_slots(const sur_gpu_product &p, const warp_work<EPILOGUE> &work, char *shared)
    {
        const int warp = warp_index();
        n_slots = p.skinny.slots;
        slots = shared_address(shared) + warp * n_slots * SUR_SKINNY_SLOT_BYTES;
        barriers =
            shared_address(shared) + p.skinny.warps * n_slots * SUR_SKINNY_SLOT_BYTES + warp * SUR_SKINNY_SLOTS * 8;
        fill = oldest = parity = 0;
        round0 = 0;
        segment = work.segment0;
        seek(p, work);
        if (elected()) {
#pragma unroll
            for (uint32_t i = 0; i < SUR_SKINNY_SLOTS; i++) arrival_init(barriers + i * 8);
        }
        __syncwarp();
    }
    /* Moves to the first tile of the round and segment. */
    DEVICE_MEMBER void seek(const sur_gpu_product &p, const warp_work<EPILOGUE> &work)
    {
        end = work.end_of_round(round0);
        tile = round0 + work.way;
        next = at<const char>(p.w) + (uint64_t)blockIdx.x * (uint32_t)(p.pitch * 16) + distance(p, tile) +
               segment * SUR_SKINNY_GROUP_BYTES;
    }
    /* Bytes from one of the block's tiles to the tile that is `tiles` further. */
    DEVICE_MEMBER static uint64_t distance(const sur_gpu_product &p, int tiles)
    {
        return (uint64_t)(uint32_t)(tiles * warp_work<EPILOGUE>::GROUPS) * p.skinny.deal_bytes;
    }
    /* Starts the copies of the next n tiles, or of those that are left. All lanes have finished with the slots' old
     * contents, and have met. */
    DEVICE_MEMBER void fetch(const sur_gpu_product &p, const warp_work<EPILOGUE> &work, int n)
    {
#pragma unroll 1
        for (; n && tile < end; n--) {
            const char *upper = next + (work.TWO ? p.w_up - p.w : p.skinny.deal_bytes);
            uint32_t n_bytes = SUR_SKINNY_GROUP_BYTES;
            if (segment + 1 == work.segments) n_bytes = p.skinny.last_bytes;
            fetch_async(slots + fill * SUR_SKINNY_SLOT_BYTES, next, work.is_whole(tile) ? upper : NULL,
                        SUR_SKINNY_GROUP_BYTES, n_bytes, barriers + fill * 8);
            fill = fill + 1 == n_slots ? 0 : fill + 1;
            tile += work.ways;
            next += distance(p, work.ways);
            if (tile < end) continue;
            segment += work.segment_step;
            if (segment >= work.segments) segment = work.segment0, round0 += work.tiles_per_round;
            seek(p, work);
        }
    }
    /* Waits for the weights of the oldest slot (i 0), or of the one after it (i 1). Returns the slot's address. */
    DEVICE_MEMBER uint32_t wait(uint32_t i) const
    {
        const bool wraps = oldest + i >= n_slots;
        const uint32_t slot = wraps ? oldest + i - n_slots : oldest + i;
        arrival_wait(barriers + slot * 8, parity ^ wraps);
        return slots + slot * SUR_SKINNY_SLOT_BYTES;
    }
    /* Releases the oldest n slots, which this lane has finished with, and fills them again. */
    DEVICE_MEMBER void release(const sur_gpu_product &p, const warp_work<EPILOGUE> &work, int n)
    {
        oldest += n;
        if (oldest >= n_slots) oldest -= n_slots, parity ^= 1;
        __syncwarp();
        fetch(p, work, n);
    }
};

/* ---- input ---- */

/* The input of one segment in registers: for each 16 of k what mma's 8 columns need. With up to four columns mma's
 * columns 0 to 3 are the high halves and 4 to 7 the low ones, and lane 4 g + t holds (x, y) of mma's column g. With
 * more, that lane holds both halves of column g. seek() works addresses out before load() may read. */
struct input_segment {
    static constexpr int STEP = MAX_COLUMNS * SUR_GPU_FRAGMENT * 2 / sizeof(uint4); /* from 16 of k to the next */
    uint4 k16[16];
    const uint4 *next;
    int steps; /* of 16 of k from next to the end of k; 0 or below for a column that does not exist */

    DEVICE_MEMBER static bool is_few(const sur_gpu_product &p) { return p.n <= MAX_COLUMNS / 2; }
    DEVICE_MEMBER void seek(const sur_gpu_product &p, int segment, bool is_idle)
    {
        const int lane = threadIdx.x % 32, column = is_few(p) ? lane / 4 % 4 : lane / 4;
        steps = keep_in_register(column < p.n && !is_idle ? p.pitch / 16 - segment * 16 : 0);
        next = keep_in_register(at<const uint4>(p.hi) + segment * 16 * STEP + column * 4 + lane % 4);
        if (is_few(p) && lane >= 16) next = (const uint4 *)((const uint2 *)next + 1);
    }
    /* Loads the segment, and moves on by segment_step segments. Columns that do not exist become zeros: noise there
     * would cost the tensor cores power, and so clock rate. */
    DEVICE_MEMBER void load(const sur_gpu_product &p, int segment_step)
    {
        if (is_few(p)) {
#pragma unroll
            for (int s = 0; s < 16; s++) {
                uint2 one = make_uint2(0, 0);
                if (s / 4 * 4 < steps) one = __ldcg((const uint2 *)(next + s * STEP));
                k16[s].x = one.x, k16[s].y = one.y;
            }
        } else {
#pragma unroll
            for (int s = 0; s < 16; s++) {
                k16[s] = make_uint4(0, 0, 0, 0);
                if (s / 4 * 4 < steps) k16[s] = __ldcg(next + s * STEP);
            }
        }
        steps -= segment_step * 16;
        next += segment_step * 16 * STEP;
    }
};

/* A compile-time argument of a lambda. */
template <bool VALUE> struct constant {
    static constexpr bool value = VALUE;
};

/* Sums [TILES][4] of TILES tiles over one segment of `steps` times 16 of k; the tiles' chains of mma run side by side.
 * rows: the addresses of this lane's row of each tile. FEW: up to four columns; the low halves' sums are in lane ^ 2.
 */
template <int TILES, bool FEW>
DEVICE void multiply(float (*sum)[4], const input_segment &x, const uint32_t (&rows)[TILES], int steps)
{
    constexpr int AHEAD = TILES == 1 ? 4 : 2;
    float low[TILES][4] = {};
    uint32_t at_step[TILES][4];
#pragma unroll
    for (int i = 0; i < TILES * 4; i++) at_step[i / 4][i % 4] = keep_in_register(rows[i / 4] ^ i % 4 << 5);
#pragma unroll
    for (int from = 0; from < 16; from += AHEAD) {
        if (from % 4 == 0 && from >= steps) break;
        uint32_t a[AHEAD][TILES][4];
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
#pragma unroll
            for (int t = 0; t < TILES; t++) load_matrix4(a[i][t], at_step[t][(from + i) % 4] + (from + i) / 4 * 1024);
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            const uint4 &b = x.k16[from + i];
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                mma_bf16(sum[t], a[i][t], b.x, b.y);
                if (!FEW) mma_bf16(low[t], a[i][t], b.z, b.w);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < TILES * 4; i++) {
        float &v = sum[i / 4][i % 4];
        v = __fadd_rn(v, FEW ? __shfl_xor_sync(~0u, v, 2) : low[i / 4][i % 4]);
    }
}

/* Writes a lane's sums of a tile and segment to shared memory. */
DEVICE void put_sums(float *to, const float (&sum)[4], int n)
{
    const int c = threadIdx.x % 4 * 2;
    if (c < n) to[0] = sum[0], to[8 * n] = sum[2];
    if (c + 1 < n) to[1] = sum[1], to[8 * n + 1] = sum[3];
}

/* ---- the best four ---- */

/* A number that sorts like the logit; of equal logits the lower id is the larger number. A logit that is not finite
 * sorts above all others and reads back as NaN, so that the result shows it. */
DEVICE unsigned long long rank_of(float v, int id)
{
    uint32_t u = __float_as_uint(v);
    u = (u & 0x7f800000u) == 0x7f800000u ? 0xffffffffu : u & 0x80000000u ? ~u : u | 0x80000000u;
    return (unsigned long long)u << 32 | (uint32_t)~id;
}

DEVICE void insert(unsigned long long (&top)[4], unsigned long long x)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (x > top[i]) {
            unsigned long long t = top[i];
            top[i] = x;
            x = t;
        }
}

/* Merges the lanes' sorted fours: afterwards every lane has the warp's best four. */
DEVICE void merge_lanes(unsigned long long (&top)[4])
{
    unsigned long long best[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        unsigned long long most = top[0];
        for (int step = 16; step; step >>= 1) {
            unsigned long long other = __shfl_xor_sync(~0u, most, step);
            most = other > most ? other : most;
        }
        if (top[0] == most) top[0] = top[1], top[1] = top[2], top[2] = top[3], top[3] = 0;
        best[i] = most;
    }
#pragma unroll
    for (int i = 0; i < 4; i++) top[i] = best[i];
}

DEVICE unsigned long long nth(const unsigned long long (&top)[4], int i)
{
    return i == 0 ? top[0] : i == 1 ? top[1] : i == 2 ? top[2] : top[3];
}

/* Every block writes its best four of each column; the block that finishes last merges them and writes the result.
 * scratch: shared memory for four numbers per warp. */
static __device__ void best_four(const sur_gpu_product &p, int groups, unsigned long long *scratch)
{
    const sur_gpu_top_state &state = *at<const sur_gpu_top_state>(p.out.top);
    unsigned long long *candidates = at<unsigned long long>(state.candidates);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = SUR_SKINNY_WARPS;
    for (int c = 0; c < p.n; c++) {
        unsigned long long top[4] = {0};
        const float *y = at<const float>(p.out.y) + (size_t)c * p.out.stride;
        for (int e = threadIdx.x; e < groups * 8; e += blockDim.x) {
            const int row = row_of(e / 8, e % 8);
            if (row < p.rows) insert(top, rank_of(__ldcg(y + row), row));
        }
        merge_lanes(top);
        __syncthreads();
        if (lane < 4) scratch[warp * 4 + lane] = nth(top, lane);
        __syncthreads();
        if (warp == 0) {
            unsigned long long all[4] = {0};
            for (int i = lane; i < warps * 4; i += 32) insert(all, scratch[i]);
            merge_lanes(all);
            if (lane < 4) __stcg(candidates + (blockIdx.x * MAX_COLUMNS + c) * 4 + lane, nth(all, lane));
        }
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) scratch[0] = atomicAdd(at<unsigned>(state.counter), 1) == gridDim.x - 1;
    __syncthreads();
    if (!scratch[0]) return;
    __threadfence();
    if (threadIdx.x == 0) *at<unsigned>(state.counter) = 0;
    for (int c = warp; c < p.n; c += warps) {
        unsigned long long top[4] = {0};
        for (int i = lane; i < gridDim.x * 4; i += 32)
            insert(top, __ldcg(candidates + (i / 4 * MAX_COLUMNS + c) * 4 + i % 4));
        merge_lanes(top);
        if (lane < 4) {
            unsigned long long x = nth(top, lane);
            sur_gpu_top *result = at<sur_gpu_top>(state.result) + c;
            uint32_t u = (uint32_t)(x >> 32);
            result->id[lane] = (int)~(uint32_t)x;
            result->value[lane] = __uint_as_float(u & 0x80000000u ? u & 0x7fffffffu : ~u);
        }
    }
    __threadfence_system();
}

/* ---- outputs ---- */

/* One output: a row of a column. 8 neighbouring threads have the 8 rows of a group. What an output needs besides its
 * sum is computed and read while the weights are still coming, and kept in registers: nothing hides instructions behind
 * the last weights, and the compiler prefers to compute values again. That is before the wait for the kernel before:
 * y of ADD, the position, and the rotation of QKV were written at least two kernels ago, and are read on the assumption
 * that instructions.cuh states. */
template <int EPILOGUE> struct output {
    int c, row, sums; /* column, row; index of its first segment's sum */
    float *squares;   /* of the group; NULL but for the group's first output, and without a norm */
    int exists;       /* 0: past the end; the thread only takes part in shuffles */
    float old, bias, norm;
    float2 turn;            /* QKV: cos, sin; 1, 0 for values */
    float *y;               /* or NULL; QKV: a query, or an element of an fp32 ring */
    __half *ring;           /* QKV: an element of an fp16 ring, or NULL */
    __nv_bfloat16 *hi, *lo; /* or NULL */

    /* Output e of those of the n_groups groups from group0 on. */
    DEVICE_MEMBER output(const sur_gpu_product &p, const warp_work<EPILOGUE> &work, int group0, int n_groups, int e)
    {
        const sur_gpu_output &o = p.out;
        const int r = e % 8, group = floor_times(e / 8, p.skinny.per_column);
        row = keep_in_register(row_of(group0 + group, r));
        c = keep_in_register(e / 8 - group * p.n);
        sums =
            keep_in_register((group / work.GROUPS * work.segments * 16 + (work.TWO ? 0 : group % 2 * 8) + r) * p.n + c);
        exists = keep_in_register((int)(group < n_groups && row < p.rows));
        old = bias = 0, norm = 1;
        y = squares = NULL, ring = NULL, hi = lo = NULL;
        if (!exists) return;
        if (o.bias) bias = at<const float>(o.bias)[row];
        if (EPILOGUE == SUR_GPU_QKV) {
            place_qkv(o);
            return;
        }
        int column = c;
        if (EPILOGUE == SUR_GPU_ROWS) column = (int)((__ldcg(at<const int64_t>(o.position)) + c) % SUR_GPU_ROW_RING);
        if (o.y) y = at<float>(o.y) + (size_t)column * o.stride + row;
        if (EPILOGUE == SUR_GPU_ADD) old = __ldcg(y);
        if (!o.hi) return;
        const split_places places(o.hi, o.lo, o.pitch);
        hi = places.hi + places.index(c, row);
        lo = places.lo + places.index(c, row);
        if (o.norm) norm = at<const float>(o.norm)[row];
        if (o.squares && r == 0) squares = at<float>(o.squares) + (size_t)c * ((p.rows + 7) / 8) + row / 8;
    }
    DEVICE_MEMBER void place_qkv(const sur_gpu_output &o)
    {
        const qkv_place place(o, row);
        turn = turn_of(o, place, c);
        if (place.query) {
            y = at<float>(o.y) + (size_t)c * o.stride + row;
            return;
        }
        const size_t i = ring_index(o.ring, place.value, place.head, place.e, *at<const int64_t>(o.position) + c);
        const sur_gpu_ptr to = place.value ? o.ring.v : o.ring.k;
        if (o.ring.fp32)
            y = at<float>(to) + i;
        else
            ring = at<__half>(to) + i;
    }
};

/* Adds the sums of N segments, ascending, which are `step` apart, and moves on. */
template <int N> DEVICE void add_sums(float &v, const float *&sums, int step)
{
    float part[N];
#pragma unroll
    for (int i = 0; i < N; i++, sums += step) part[i] = *sums;
#pragma unroll
    for (int i = 0; i < N; i++) v = __fadd_rn(v, part[i]);
}

/* The sum of one row and column over all segments. */
DEVICE float total(const float *sums, int segments, int step)
{
    float v = 0;
#pragma unroll 1
    for (; segments >= 8; segments -= 8) add_sums<8>(v, sums, step);
    if (segments >= 4) add_sums<4>(v, sums, step), segments -= 4;
#pragma unroll 1
    for (; segments > 0; segments--) add_sums<1>(v, sums, step);
    return v;
}

/* Finishes and writes an output. All lanes of the warp call it. scale [n]: used when the columns are normed. */
template <int EPILOGUE>
DEVICE void finish_output(const sur_gpu_product &p, const output<EPILOGUE> &t, const float *sums, const float *scale)
{
    const int segments = p.skinny.segments, n = p.n;
    float v = 0, pair = 0;
    if (t.exists) {
#pragma unroll 1
        for (int half = EPILOGUE == SUR_GPU_SWIGLU; half >= 0; half--) {
            pair = v;
            v = total(sums + t.sums + half * 8 * n, segments, keep_in_register(16 * n));
        }
        if (p.squares) v = __fmul_rn(v, scale[t.c]), pair = __fmul_rn(pair, scale[t.c]);
        if (p.out.bias) v = __fadd_rn(v, t.bias);
    }
    if (EPILOGUE == SUR_GPU_QKV) {
        const float other = __shfl_xor_sync(~0u, v, 1);
        if (t.row & 1)
            v = __fmaf_rn(other, t.turn.y, __fmul_rn(v, t.turn.x));
        else
            v = __fmaf_rn(v, t.turn.x, -__fmul_rn(other, t.turn.y));
        if (t.ring) *t.ring = saturated_half(v);
    }
    if (EPILOGUE == SUR_GPU_GELU) v = gelu(v);
    if (EPILOGUE == SUR_GPU_SWIGLU) v = silu_mul(v, pair);
    if (EPILOGUE == SUR_GPU_ADD) v = __fadd_rn(t.old, v);
    if (t.y) *t.y = v;
    if (t.hi) split(p.out.norm ? __fmul_rn(v, t.norm) : v, *t.hi, *t.lo);
    if (!p.out.squares) return;
    const float sum = fold_squares(t.exists ? v : 0);
    if (t.squares) *t.squares = sum;
}

/* ---- the kernel ---- */

/* The sums of one segment, of all tiles of the round that this warp has: two tiles at a time where there are two slots.
 * in_half: what a lane adds to a slot's address for its row of a tile; upper: and then in a tile of two groups. */
template <int EPILOGUE>
DEVICE void multiply_segment(const sur_gpu_product &p, const warp_work<EPILOGUE> &work, weight_slots<EPILOGUE> &in,
                             const input_segment &x, int segment, int round0, int end, uint32_t in_half, uint32_t upper,
                             float *sums)
{
    const int lane = threadIdx.x % 32, n = p.n, steps = min(p.pitch / 16 - segment * 16, 16);
    const int tile_sums = work.ways * work.segments * 16 * n;
    float *to = sums + ((work.way * work.segments + segment) * 16 + lane / 4) * n + lane % 4 * 2;
    for (int tile = round0 + work.way; tile < end;) {
        const int next = tile + work.ways, both = next < end && in.n_slots == 2;
        const uint32_t row = in.wait(0) + in_half + (work.is_whole(tile) ? upper : 0);
        float sum[2][4] = {};
        auto multiply_tiles = [&](auto few) {
            constexpr bool FEW = decltype(few)::value;
            if (both) {
                const uint32_t rows[2] = {row, in.wait(1) + in_half + (work.is_whole(next) ? upper : 0)};
                multiply<2, FEW>(sum, x, rows, steps);
                put_sums(to + tile_sums, sum[1], n);
            } else {
                const uint32_t rows[1] = {row};
                multiply<1, FEW>(sum, x, rows, steps);
            }
        };
        if (input_segment::is_few(p))
            multiply_tiles(constant<true>());
        else
            multiply_tiles(constant<false>());
        put_sums(to, sum[0], n);
        in.release(p, work, 1 + both);
        tile += (1 + both) * work.ways;
        to += (1 + both) * tile_sums;
    }
}

/* This function is long: it is one pipeline, whose steps share nearly all of its variables. */
template <int EPILOGUE> DEVICE void skinny(const sur_gpu_product &p)
{
    DYNAMIC_SHARED(shared, 1024);
    char *small = shared + p.skinny.warps * p.skinny.slots * SUR_SKINNY_SLOT_BYTES;
    float *scale = (float *)(small + SUR_SKINNY_WARPS * SUR_SKINNY_SLOTS * 8),
          *sums = (float *)(small + SUR_SKINNY_SMALL_BYTES);
    unsigned long long *best = (unsigned long long *)(scale + MAX_COLUMNS);
    static_assert(SUR_SKINNY_WARPS * (SUR_SKINNY_SLOTS + 4) * 8 + MAX_COLUMNS * 4 <= SUR_SKINNY_SMALL_BYTES, "small");
    const warp_work<EPILOGUE> work(p);
    weight_slots<EPILOGUE> in(p, work, shared);
    in.fetch(p, work, 1);
    const int lane = threadIdx.x % 32, warp = warp_index(), n = p.n;
    bool waiting = true; /* for the kernel before */
    auto start = [&] {
        wait_for_previous();
        let_next_start();
        waiting = false;
    };
    bool more = true; /* the other slots are filled behind the input, which would otherwise wait for those weights */
    /* the rows that lanes give to ldmatrix: 0-7 and 16-23 those of a tile's lower half, the others those of its upper
     * half if there is one; 16-31 point 8 of k further on */
    const uint32_t in_half = lane % 8 * 128 + ((lane / 16 ^ lane % 8) << 4);
    const uint32_t upper = lane & 8 ? SUR_SKINNY_GROUP_BYTES : 0;
    for (int round0 = 0; round0 * work.GROUPS < work.groups; round0 += work.tiles_per_round) {
        const int end = work.end_of_round(round0), group0 = round0 * work.GROUPS;
        const int n_groups = min(work.groups - group0, work.tiles_per_round * work.GROUPS);
        const int n_outputs = keep_in_register(n_groups * n * 8);
        /* A thread's first output of the round is prepared before the weights arrive. The loop has each step only once
         * in the code: a kernel executes its instructions so few times that fetching them takes most of its time. */
        bool first = true;
        input_segment x;
        x.seek(p, work.segment0, end <= round0);
        auto load = [&] {
            x.load(p, work.segment_step);
            if (more) in.fetch(p, work, p.skinny.slots - 1);
            more = false;
        };
        for (int e = threadIdx.x;; first = false) {
            if (EPILOGUE == SUR_GPU_QKV && waiting && p.out.new_place) start();
            const output<EPILOGUE> t(p, work, group0, n_groups, e);
            if (waiting) start();
            if (first) {
                load();
                if (round0) __syncthreads(); /* the sums of the round before have been read */
                /* by the last warps, because the first ones have outputs to prepare */
                for (int c = SUR_SKINNY_WARPS - 1 - warp; p.squares && round0 == 0 && c < n; c += SUR_SKINNY_WARPS) {
                    const float s = rms_scale(at<const float>(p.squares) + (size_t)c * ((p.k + 7) / 8), p.k, p.eps);
                    if (lane == 0) scale[c] = s;
                }
                for (int segment = work.segment0; end > round0 && segment < work.segments;) {
                    multiply_segment(p, work, in, x, segment, round0, end, in_half, upper, sums);
                    segment += work.segment_step;
                    if (segment < work.segments) x.load(p, work.segment_step);
                }
                __syncthreads();
            }
            finish_output(p, t, sums, scale);
            e += blockDim.x;
            if (e - lane >= n_outputs) break;
        }
    }
    if (EPILOGUE == SUR_GPU_HEAD) {
        __syncthreads();
        best_four(p, work.groups, best);
    }
}

#define SKINNY(name, epilogue)                                                                                         \
    extern "C" __global__ void __launch_bounds__(SUR_SKINNY_WARPS * 32, 1)                                             \
        k_skinny_##name(const __grid_constant__ sur_gpu_product p)                                                     \
    {                                                                                                                  \
        skinny<epilogue>(p);                                                                                           \
    }
SKINNY(gelu, SUR_GPU_GELU)
SKINNY(add, SUR_GPU_ADD)
SKINNY(swiglu, SUR_GPU_SWIGLU)
SKINNY(qkv, SUR_GPU_QKV)
SKINNY(rows, SUR_GPU_ROWS)
SKINNY(head, SUR_GPU_HEAD)
