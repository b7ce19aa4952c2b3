#include "input/arrivals.h"

#include <string.h>

#include "util/scale.h"

static const int64_t second = 1000000000;
static const int64_t least_ns = 200000000;         /* a smaller rise may be a change of the delay */
static const int64_t least_reported_ns = 20000000; /* if the host API reported a loss */
static const int64_t fall_ns = 10000000;           /* a smaller fall does not show late blocks */
static const int64_t steady_ns = 500000000;        /* of audio without a fall */
static const int64_t longest_doubt_ns = 5000000000;
static const int64_t window_ns = 1000000000;
static const int64_t drift_ns = 500000;          /* per window: 500 ppm */
static const int64_t delay_least_ns = 50000000;  /* a smaller change is noise of the times of recording */
static const int64_t asleep_least_ns = 10000000; /* the two clocks are not read at the same moment */
static const double oldest_s = 1;                /* of a plausible time of recording */

void arrivals_init(struct arrivals *a, int rate)
{
    memset(a, 0, sizeof *a);
    a->rate = rate;
    a->sane = true;
}

static int64_t sound_ns(const struct arrivals *a, int64_t frames)
{
    return sur_scale(frames, second, a->device_rate);
}

static void begin_window(struct arrivals *a)
{
    a->window = 0;
    for (int i = 0; i < ARRIVALS_CLOCKS; i++) a->lowest_ns[i] = INT64_MAX;
}

static void begin_stream(struct arrivals *a, int rate)
{
    if (a->begun) a->sound_ns += sound_ns(a, a->frames);
    a->frames = 0;
    a->device_rate = rate;
    a->sane = true;
    a->recorded_s = 0;
    begin_window(a);
}

/* ---- the clocks ---- */

static int64_t awake_and_asleep_ns(struct arrivals *a, const struct arrivals_block *b)
{
    int64_t more = b->asleep_ns - a->asleep_ns;
    if (!a->begun || more < 0 || more > asleep_least_ns) a->asleep_ns = b->asleep_ns;
    if (a->begun && more > asleep_least_ns) a->slept_ns += more;
    return b->now_ns + a->slept_ns;
}

static bool is_sane(struct arrivals *a, const struct arrivals_block *b)
{
    double age = b->current_s - b->recorded_s, before = a->recorded_s;
    a->recorded_s = b->recorded_s;
    return b->recorded_s > 0 && b->current_s > 0 && age >= 0 && age <= oldest_s && b->recorded_s > before;
}

/* Computes how far the block's first frame is behind each clock. */
static void measure(struct arrivals *a, const struct arrivals_block *b, int64_t behind_ns[ARRIVALS_CLOCKS])
{
    int64_t now = a->now_ns = awake_and_asleep_ns(a, b), sound = a->sound_ns + sound_ns(a, a->frames);
    a->sane = is_sane(a, b) && a->sane;
    behind_ns[ARRIVALS_DELIVERED] = now - sound_ns(a, b->frames) - sound;
    behind_ns[ARRIVALS_RECORDED] =
        a->sane ? now - (int64_t)((b->current_s - b->recorded_s) * (double)second) - sound : INT64_MAX;
}

/* Apart from noise both clocks err only on the late side, so the smaller rise is right. */
static int64_t rise(const struct arrivals *a, const int64_t behind_ns[ARRIVALS_CLOCKS])
{
    int64_t delivered = behind_ns[ARRIVALS_DELIVERED] - a->expected_ns[ARRIVALS_DELIVERED];
    int64_t recorded = behind_ns[ARRIVALS_RECORDED] - a->expected_ns[ARRIVALS_RECORDED];
    return a->sane && a->known && recorded < delivered ? recorded : delivered;
}

static int64_t within(int64_t value, int64_t most)
{
    return value > most ? most : value < -most ? -most : value;
}

/* Follows the drift of the sound card. A block that is earlier than expected corrects the expectation, except after a
 * loss: there it may mean that the loss was shorter than reported, and the next loss is then reduced. */
static bool follow(struct arrivals *a, const struct arrivals_block *b, const int64_t behind_ns[ARRIVALS_CLOCKS])
{
    bool moved = false;
    if (a->sane && !a->known) {
        a->expected_ns[ARRIVALS_RECORDED] = behind_ns[ARRIVALS_RECORDED];
        moved = !a->lossy;
    }
    a->known = a->known || a->sane;
    for (int i = 0; i < (a->sane ? ARRIVALS_CLOCKS : 1); i++) {
        if (behind_ns[i] < a->lowest_ns[i]) a->lowest_ns[i] = behind_ns[i];
        if (a->lossy || behind_ns[i] >= a->expected_ns[i]) continue;
        a->expected_ns[i] = behind_ns[i];
        moved = true;
    }
    a->window += b->frames;
    if (sound_ns(a, a->window) < window_ns) return moved;
    int64_t change[ARRIVALS_CLOCKS] = {0};
    for (int i = 0; i < ARRIVALS_CLOCKS; i++)
        if (a->lowest_ns[i] != INT64_MAX) change[i] = a->lowest_ns[i] - a->expected_ns[i];
    /* a change that the other clock does not show is a change of the delivery's delay */
    int64_t delay = a->sane ? change[ARRIVALS_DELIVERED] - change[ARRIVALS_RECORDED] : 0;
    if (delay < delay_least_ns && delay > -delay_least_ns) delay = 0;
    if (delay < -a->delay_ns) delay = -a->delay_ns;
    a->delay_ns += delay;
    a->expected_ns[ARRIVALS_DELIVERED] += delay + within(change[ARRIVALS_DELIVERED] - delay, drift_ns);
    a->expected_ns[ARRIVALS_RECORDED] += within(change[ARRIVALS_RECORDED], drift_ns);
    begin_window(a);
    return moved;
}

/* ---- doubt ---- */

static void lose(struct arrivals *a, struct arrivals_advice *advice)
{
    a->lost_ns += a->rise_ns;
    a->lossy = true;
    for (int i = 0; i < ARRIVALS_CLOCKS; i++) a->expected_ns[i] += a->rise_ns;
    advice->lost = sur_scale(a->lost_ns, a->rate, second) - a->lost;
    advice->device = a->device;
    a->lost += advice->lost;
}

static int64_t least(const struct arrivals *a)
{
    return a->device ? 0 : a->pinned ? least_reported_ns : least_ns;
}

/* Ends the doubt: frames that have not arrived by now are lost. */
static void decide(struct arrivals *a, struct arrivals_advice *advice)
{
    if (a->rise_ns > least(a)) lose(a, advice);
    a->doubt = a->pinned = a->device = false;
    advice->release = true;
    begin_window(a);
}

static void begin_doubt(struct arrivals *a, const struct arrivals_block *b, int64_t rise_ns)
{
    a->doubt = true;
    a->device = b->reopened;
    a->pinned = b->reopened || b->overflow;
    a->rise_ns = a->fallen_ns = rise_ns;
    a->steady = 0;
    a->doubt_ns = a->now_ns;
}

/* If the position is not pinned: blocks held back before the rise fell were late, so a loss comes after them. Blocks
 * held back before the rise grew by much belong to an earlier doubt, which ends. */
static void update_doubt(struct arrivals *a, const struct arrivals_block *b, int64_t rise_ns,
                         struct arrivals_advice *advice)
{
    bool grew = rise_ns > a->rise_ns + (b->overflow ? least_reported_ns : least_ns);
    if (rise_ns < a->rise_ns) a->rise_ns = rise_ns;
    bool fell = rise_ns < a->fallen_ns - fall_ns;
    if (fell) {
        a->fallen_ns = rise_ns;
        a->steady = 0;
        if (!a->pinned) {
            advice->release = true;
            a->doubt_ns = a->now_ns;
        }
    }
    if (grew && !a->pinned) {
        advice->release = true;
        begin_doubt(a, b, rise_ns);
    } else if (grew && b->overflow) { /* more was lost: one loss with the earlier one */
        a->rise_ns = a->fallen_ns = rise_ns;
        a->steady = 0;
    }
    if (a->rise_ns <= least(a) || sound_ns(a, a->steady) >= steady_ns || a->now_ns - a->doubt_ns >= longest_doubt_ns)
        decide(a, advice);
}

struct arrivals_advice arrivals_settle(struct arrivals *a)
{
    struct arrivals_advice advice = {0};
    if (a->doubt) decide(a, &advice);
    return advice;
}

struct arrivals_advice arrivals_look(struct arrivals *a, const struct arrivals_block *b)
{
    struct arrivals_advice advice = {0};
    int64_t behind_ns[ARRIVALS_CLOCKS];
    if (b->reopened) advice = arrivals_settle(a); /* does nothing if the caller did so when the stream ended */
    if (b->reopened || !a->begun) begin_stream(a, b->rate);
    measure(a, b, behind_ns);
    if (!a->begun) {
        a->expected_ns[ARRIVALS_DELIVERED] = behind_ns[ARRIVALS_DELIVERED];
        advice.first_moved = a->begun = true;
    }
    int64_t rise_ns = rise(a, behind_ns);
    if (a->doubt)
        update_doubt(a, b, rise_ns, &advice);
    else if (b->reopened || rise_ns > (b->overflow ? least_reported_ns : least_ns))
        begin_doubt(a, b, rise_ns);
    if (a->doubt && a->device && a->rise_ns <= 0) decide(a, &advice);
    if (!a->doubt) advice.first_moved = follow(a, b, behind_ns) || advice.first_moved;
    a->frames += b->frames;
    a->steady += b->frames;
    advice.hold = a->doubt;
    return advice;
}

int64_t arrivals_first_ns(const struct arrivals *a)
{
    return a->expected_ns[a->known ? ARRIVALS_RECORDED : ARRIVALS_DELIVERED];
}
