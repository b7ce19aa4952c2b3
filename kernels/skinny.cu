/* The skinny product: y = W x for 1 to 8 columns, bound by the bytes of W.
 *
 * Each warp fetches weights ahead through slots of its own, from before the kernel is allowed to read what the previous
 * one wrote; and holds its segment's input in registers, as fragments, while tile after tile comes. The segments' sums
 * meet in shared memory, once a round of tiles. A block takes nearly all registers and shared memory of its
 * multiprocessor: it begins when the one before has left it, not when its whole kernel has. */
#include "common.cuh"
#include "skinny.h"

#define MAX_COLUMNS SUR_GPU_SKINNY_COLUMNS

/* ---- who has what ---- */

/* Which segments of k and which tiles of rows a warp has. With more segments than warps it takes every so many-th
 * segment and all tiles; else one segment and every `ways`-th tile. */
template <int EPILOGUE> struct share {
    static constexpr bool TWO = EPILOGUE == SUR_GPU_SWIGLU;
    static constexpr int ITEMS = TWO ? 1 : 2; /* groups, or pairs of groups, a tile */
    int mine, tiles;                          /* the block's groups (SWIGLU: pairs); tiles, 0 of a warp that is idle */
    int segments, segment0, segment_step, way, ways, tiles_a_round;

    DEVICE_MEMBER share(const sur_gpu_product &p)
    {
        const int warp = warp_index();
        segments = p.skinny.segments;
        ways = p.skinny.ways;
        tiles_a_round = p.skinny.tiles_a_round;
        mine = p.skinny.rounds_dealt + (blockIdx.x < p.skinny.left_over);
        tiles = (mine + ITEMS - 1) / ITEMS;
        way = warp * p.skinny.a_segment >> 16;
        segment0 = warp - way * segments;
        segment_step = ways > 1 ? segments : p.skinny.warps;
        if (way >= ways || segment0 >= segments || warp >= p.skinny.warps) tiles = 0;
    }
    DEVICE_MEMBER int end_of_round(int round0) const { return min(tiles, round0 + tiles_a_round); }
    DEVICE_MEMBER bool is_whole(int tile) const { return TWO || 2 * tile + 1 < mine; }
};

/* Block b has groups b, b + gridDim.x, ... */
DEVICE int row_of(int item, int r)
{
    return (item * gridDim.x + blockIdx.x) * 8 + r;
}

/* ---- weights ---- */

/* A warp's slots, and what of its share it fetches next: rounds, in them segments, in them tiles. */
template <int EPILOGUE> struct stream {
    uint32_t slots, barriers, n_slots, fill, spend, parity; /* fill, spend: a slot's number */
    const char *next;                                       /* the tile's lower half */
    int round0, segment, tile, end;                         /* no more: tile >= end */

    DEVICE_MEMBER stream(const sur_gpu_product &p, const share<EPILOGUE> &mine, char *shared)
    {
        const int warp = warp_index();
        n_slots = p.skinny.slots;
        slots = shared_address(shared) + warp * n_slots * SUR_SKINNY_SLOT_BYTES;
        barriers =
            shared_address(shared) + p.skinny.warps * n_slots * SUR_SKINNY_SLOT_BYTES + warp * SUR_SKINNY_SLOTS * 8;
        fill = spend = parity = 0;
        round0 = 0;
        segment = mine.segment0;
        aim(p, mine);
        if (elected()) {
#pragma unroll
            for (uint32_t i = 0; i < SUR_SKINNY_SLOTS; i++) arrival_init(barriers + i * 8);
        }
        __syncwarp();
    }
    /* At the first tile of a round and segment. */
    DEVICE_MEMBER void aim(const sur_gpu_product &p, const share<EPILOGUE> &mine)
    {
        end = mine.end_of_round(round0);
        tile = round0 + mine.way;
        next = at<const char>(p.w) + (uint64_t)blockIdx.x * (uint32_t)(p.pitch * 16) + further(p, tile) +
               segment * SUR_SKINNY_GROUP_BYTES;
    }
    /* From a tile to one of the block's that is so many further on. */
    DEVICE_MEMBER static uint64_t further(const sur_gpu_product &p, int tiles)
    {
        return (uint64_t)(uint32_t)(tiles * share<EPILOGUE>::ITEMS) * p.skinny.deal_bytes;
    }
    /* The weights of so many slots, as far as there are any. All lanes have read what those held, and met. */
    DEVICE_MEMBER void fetch(const sur_gpu_product &p, const share<EPILOGUE> &mine, int n)
    {
#pragma unroll 1
        for (; n && tile < end; n--) {
            const char *upper = next + (mine.TWO ? p.w_up - p.w : p.skinny.deal_bytes);
            uint32_t n_bytes = SUR_SKINNY_GROUP_BYTES;
            if (segment + 1 == mine.segments) n_bytes = p.skinny.last_bytes;
            fetch_async(slots + fill * SUR_SKINNY_SLOT_BYTES, next, mine.is_whole(tile) ? upper : NULL,
                        SUR_SKINNY_GROUP_BYTES, n_bytes, barriers + fill * 8);
            fill = fill + 1 == n_slots ? 0 : fill + 1;
            tile += mine.ways;
            next += further(p, mine.ways);
            if (tile < end) continue;
            segment += mine.segment_step;
            if (segment >= mine.segments) segment = mine.segment0, round0 += mine.tiles_a_round;
            aim(p, mine);
        }
    }
    /* The address of the oldest slot, or of the one after it, once its weights are there. */
    DEVICE_MEMBER uint32_t take(uint32_t i) const
    {
        const bool wraps = spend + i >= n_slots;
        const uint32_t slot = wraps ? spend + i - n_slots : spend + i;
        arrival_wait(barriers + slot * 8, parity ^ wraps);
        return slots + slot * SUR_SKINNY_SLOT_BYTES;
    }
    /* This lane has read the oldest n. */
    DEVICE_MEMBER void give_back(const sur_gpu_product &p, const share<EPILOGUE> &mine, int n)
    {
        spend += n;
        if (spend >= n_slots) spend -= n_slots, parity ^= 1;
        __syncwarp();
        fetch(p, mine, n);
    }
};

/* ---- input ---- */

/* 256 of k of up to 8 columns as mma's columns want them, for each 16 of k: of up to four columns the first four of
 * mma's are their high halves and the others their low ones, and lane 4 g + t holds (x, y) of column g; else that lane
 * holds both halves of column g. Where the next lie is worked out ahead of the moment when they may be read. */
struct fragment {
    static constexpr int STEP = MAX_COLUMNS * SUR_GPU_FRAGMENT * 2 / sizeof(uint4); /* from 16 of k to the next */
    uint4 k16[16];
    const uint4 *next;
    int steps; /* of 16 of k from there to the end; 0 and below of a column that does not exist */

    DEVICE_MEMBER static bool is_few(const sur_gpu_product &p) { return p.n <= MAX_COLUMNS / 2; }
    DEVICE_MEMBER void aim(const sur_gpu_product &p, int segment, bool is_idle)
    {
        const int lane = threadIdx.x % 32, column = is_few(p) ? lane / 4 % 4 : lane / 4;
        steps = kept(column < p.n && !is_idle ? p.pitch / 16 - segment * 16 : 0);
        next = kept(at<const uint4>(p.hi) + segment * 16 * STEP + column * 4 + lane % 4);
        if (is_few(p) && lane >= 16) next = (const uint4 *)((const uint2 *)next + 1);
    }
    /* Those, and moves on by so many segments. Columns that do not exist are zero: noise would cost the tensor cores
     * more power than there is to spare. */
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

/* What a lambda's argument carries at compile time. */
template <bool YES> struct answer {
    static constexpr bool value = YES;
};

/* Sums of TILES tiles, their chains side by side, over one segment of `steps` times 16 of k. half: where this lane
 * finds its row of each tile. FEW: of up to four columns; mma's other four then have the same sums. */
template <int TILES, bool FEW>
DEVICE void multiply(float (&sum)[TILES][4], const fragment &x, const uint32_t (&half)[TILES], int steps)
{
    constexpr int AHEAD = TILES == 1 ? 4 : 2;
    float low[TILES][4] = {};
    uint32_t at_step[TILES][4];
#pragma unroll
    for (int i = 0; i < TILES * 4; i++) at_step[i / 4][i % 4] = kept(half[i / 4] ^ i % 4 << 5);
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

/* A lane's sums of a tile and segment, to shared memory. */
DEVICE void put_sums(float *to, const float (&sum)[4], int n)
{
    const int c = threadIdx.x % 4 * 2;
    if (c < n) to[0] = sum[0], to[8 * n] = sum[2];
    if (c + 1 < n) to[1] = sum[1], to[8 * n + 1] = sum[3];
}

/* ---- the best four ---- */

/* Sorts like the logit, and for equal ones the lower id first. What is not finite is above all, and NaN when it is read
 * back, so that the result shows it. */
DEVICE unsigned long long rank_of(float v, int id)
{
    uint32_t u = __float_as_uint(v);
    u = (u & 0x7f800000u) == 0x7f800000u ? 0xffffffffu : u & 0x80000000u ? ~u : u | 0x80000000u;
    return (unsigned long long)u << 32 | (uint32_t)~id;
}

DEVICE void keep(unsigned long long (&top)[4], unsigned long long x)
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (x > top[i]) {
            unsigned long long t = top[i];
            top[i] = x;
            x = t;
        }
}

/* The warp's best four of all lanes' sorted fours, in every lane. */
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

/* Every block leaves its best four of each column; the last one to come merges them and writes the result. room: 4 a
 * warp. */
static __device__ void best_four(const sur_gpu_product &p, int groups, unsigned long long *room)
{
    const sur_gpu_top_state &state = *at<const sur_gpu_top_state>(p.out.top);
    unsigned long long *candidates = at<unsigned long long>(state.candidates);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = SUR_SKINNY_WARPS;
    for (int c = 0; c < p.n; c++) {
        unsigned long long top[4] = {0};
        const float *y = at<const float>(p.out.y) + (size_t)c * p.out.stride;
        for (int e = threadIdx.x; e < groups * 8; e += blockDim.x) {
            const int row = row_of(e / 8, e % 8);
            if (row < p.rows) keep(top, rank_of(__ldcg(y + row), row));
        }
        merge_lanes(top);
        __syncthreads();
        if (lane < 4) room[warp * 4 + lane] = nth(top, lane);
        __syncthreads();
        if (warp == 0) {
            unsigned long long all[4] = {0};
            for (int i = lane; i < warps * 4; i += 32) keep(all, room[i]);
            merge_lanes(all);
            if (lane < 4) __stcg(candidates + (blockIdx.x * MAX_COLUMNS + c) * 4 + lane, nth(all, lane));
        }
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) room[0] = atomicAdd(at<unsigned>(state.counter), 1) == gridDim.x - 1;
    __syncthreads();
    if (!room[0]) return;
    __threadfence();
    if (threadIdx.x == 0) *at<unsigned>(state.counter) = 0;
    for (int c = warp; c < p.n; c += warps) {
        unsigned long long top[4] = {0};
        for (int i = lane; i < gridDim.x * 4; i += 32)
            keep(top, __ldcg(candidates + (i / 4 * MAX_COLUMNS + c) * 4 + i % 4));
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

/* ---- what becomes of a round's sums ---- */

/* A task: a row of a column; 8 neighbouring threads have the 8 rows of a group. What it needs besides the sums is
 * worked out and read while the weights still come, and kept: behind them every instruction counts, and the compiler
 * would rather work things out twice than hold them. That is before the wait for the kernel before: y of ADD, the
 * position, and the rotation of QKV were written at least two kernels ago, and are read on the assumption of
 * instructions.cuh. */
template <int EPILOGUE> struct task {
    int c, row, sums; /* column; where its first segment's sum lies */
    float *squares;   /* of its group, of the group's first task, or NULL */
    int there;        /* else the thread only comes along */
    float old, bias, norm;
    float2 turn;            /* QKV: cos, sin; a value's are 1, 0 */
    float *y;               /* or NULL; QKV: a query's place, or in a ring of fp32 */
    __half *ring;           /* QKV: the place in a ring of fp16, or NULL */
    __nv_bfloat16 *hi, *lo; /* or NULL */

    /* e: of the tasks of n_items items from item0 on */
    DEVICE_MEMBER task(const sur_gpu_product &p, const share<EPILOGUE> &mine, int item0, int n_items, int e)
    {
        const sur_gpu_output &o = p.out;
        const int r = e % 8, item = floor_times(e / 8, p.skinny.a_column);
        row = kept(row_of(item0 + item, r));
        c = kept(e / 8 - item * p.n);
        sums = kept((item / mine.ITEMS * mine.segments * 16 + (mine.TWO ? 0 : item % 2 * 8) + r) * p.n + c);
        there = kept((int)(item < n_items && row < p.rows));
        old = bias = 0, norm = 1;
        y = squares = NULL, ring = NULL, hi = lo = NULL;
        if (!there) return;
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

/* Adds so many segments' sums, ascending, which lie `step` apart. */
template <int N> DEVICE void add_sums(float &v, const float *&sums, int step)
{
    float part[N];
#pragma unroll
    for (int i = 0; i < N; i++, sums += step) part[i] = *sums;
#pragma unroll
    for (int i = 0; i < N; i++) v = __fadd_rn(v, part[i]);
}

/* The sum of one row and column over its tile's segments. */
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

/* All lanes of a warp come. scale [n]: of normed columns. */
template <int EPILOGUE>
DEVICE void finish_task(const sur_gpu_product &p, const task<EPILOGUE> &t, const float *sums, const float *scale)
{
    const int segments = p.skinny.segments, n = p.n;
    float v = 0, pair = 0;
    if (t.there) {
#pragma unroll 1
        for (int half = EPILOGUE == SUR_GPU_SWIGLU; half >= 0; half--) {
            pair = v;
            v = total(sums + t.sums + half * 8 * n, segments, kept(16 * n));
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
    const float sum = fold_squares(t.there ? v : 0);
    if (t.squares) *t.squares = sum;
}

/* ---- the kernel ---- */

/* A segment's sums of all tiles of a round that this warp has, two at a time. */
template <int EPILOGUE>
DEVICE void multiply_segment(const sur_gpu_product &p, const share<EPILOGUE> &mine, stream<EPILOGUE> &in,
                             const fragment &x, int segment, int round0, int end, uint32_t in_half, uint32_t upper,
                             float *sums)
{
    const int lane = threadIdx.x % 32, n = p.n, steps = min(p.pitch / 16 - segment * 16, 16);
    const int tile_sums = mine.ways * mine.segments * 16 * n;
    float *to = sums + ((mine.way * mine.segments + segment) * 16 + lane / 4) * n + lane % 4 * 2;
    for (int tile = round0 + mine.way; tile < end;) {
        const int next = tile + mine.ways, two = next < end && in.n_slots == 2;
        const uint32_t half = in.take(0) + in_half + (mine.is_whole(tile) ? upper : 0);
        float sum[2][4] = {};
        auto by = [&](auto few) {
            constexpr bool FEW = decltype(few)::value;
            if (two) {
                const uint32_t halves[2] = {half, in.take(1) + in_half + (mine.is_whole(next) ? upper : 0)};
                multiply<2, FEW>(sum, x, halves, steps);
                put_sums(to + tile_sums, sum[1], n);
            } else {
                const uint32_t halves[1] = {half};
                float(&one)[1][4] = *(float(*)[1][4]) & sum;
                multiply<1, FEW>(one, x, halves, steps);
            }
        };
        if (fragment::is_few(p))
            by(answer<true>());
        else
            by(answer<false>());
        put_sums(to, sum[0], n);
        in.give_back(p, mine, 1 + two);
        tile += (1 + two) * mine.ways;
        to += (1 + two) * tile_sums;
    }
}

/* This function is long: it is one pipeline, whose steps share nearly all that it holds. */
template <int EPILOGUE> DEVICE void skinny(const sur_gpu_product &p)
{
    DYNAMIC_SHARED(shared, 1024);
    char *small = shared + p.skinny.warps * p.skinny.slots * SUR_SKINNY_SLOT_BYTES;
    float *scale = (float *)(small + SUR_SKINNY_WARPS * SUR_SKINNY_SLOTS * 8),
          *sums = (float *)(small + SUR_SKINNY_SMALL_BYTES);
    unsigned long long *best = (unsigned long long *)(scale + MAX_COLUMNS);
    static_assert(SUR_SKINNY_WARPS * (SUR_SKINNY_SLOTS + 4) * 8 + MAX_COLUMNS * 4 <= SUR_SKINNY_SMALL_BYTES, "small");
    const share<EPILOGUE> mine(p);
    stream<EPILOGUE> in(p, mine, shared);
    in.fetch(p, mine, 1);
    const int lane = threadIdx.x % 32, warp = warp_index(), n = p.n;
    bool waiting = true; /* for the kernel before */
    bool more = true;    /* slots are to be filled behind the input, which else would come behind all they take */
    auto start = [&] {
        wait_for_previous();
        let_next_start();
        waiting = false;
    };

    /* lanes 0-7 and 16-23 point at rows of a tile's lower half, the others of its upper if it has one; 16-31 at 8 of k
     * further on */
    const uint32_t in_half = lane % 8 * 128 + ((lane / 16 ^ lane % 8) << 4);
    const uint32_t upper = lane & 8 ? SUR_SKINNY_GROUP_BYTES : 0;
    for (int round0 = 0; round0 * mine.ITEMS < mine.mine; round0 += mine.tiles_a_round) {
        const int end = mine.end_of_round(round0), item0 = round0 * mine.ITEMS;
        const int n_items = min(mine.mine - item0, mine.tiles_a_round * mine.ITEMS), n_tasks = kept(n_items * n * 8);
        /* A round's first tasks are worked out before its weights: each line of this is there once, for a kernel runs
         * through its instructions so seldom that most of its time goes into fetching them. */
        bool first = true;
        fragment x;
        x.aim(p, mine.segment0, end <= round0);
        auto load = [&] {
            x.load(p, mine.segment_step);
            if (more) in.fetch(p, mine, p.skinny.slots - 1);
            more = false;
        };
        for (int e = threadIdx.x;; first = false) {
            if (EPILOGUE == SUR_GPU_QKV && waiting && p.out.new_place) start();
            const task<EPILOGUE> t(p, mine, item0, n_items, e);
            if (waiting) start();
            if (first) {
                load();
                if (round0) __syncthreads(); /* the sums before are read */
                /* by the last warps, for the first have the tasks */
                for (int c = SUR_SKINNY_WARPS - 1 - warp; p.squares && round0 == 0 && c < n; c += SUR_SKINNY_WARPS) {
                    const float s = rms_scale(at<const float>(p.squares) + (size_t)c * ((p.k + 7) / 8), p.k, p.eps);
                    if (lane == 0) scale[c] = s;
                }
                for (int segment = mine.segment0; end > round0 && segment < mine.segments;) {
                    multiply_segment(p, mine, in, x, segment, round0, end, in_half, upper, sums);
                    segment += mine.segment_step;
                    if (segment < mine.segments) x.load(p, mine.segment_step);
                }
                __syncthreads();
            }
            finish_task(p, t, sums, scale);
            e += blockDim.x;
            if (e - lane >= n_tasks) break;
        }
    }
    if (EPILOGUE == SUR_GPU_HEAD) {
        __syncthreads();
        best_four(p, mine.mine, best);
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
