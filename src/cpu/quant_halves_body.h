/* For quant_*.c: products of bytes, with the high and the low halves of the activations summed separately. The file
 * defines DOT(sum, w, four), which adds the products of four bytes of each row and of the int32 four, per row. */
#include <string.h>

struct acc {
    quant_vi high, low;
};
#define ACC_ZERO ((struct acc){{0}, {0}})

static inline __attribute__((always_inline)) quant_vi dot(quant_vi sum, quant_vi w, const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
    return (quant_vi)DOT(sum, w, four);
}

static inline __attribute__((always_inline)) struct acc acc_step(struct acc a, quant_vi w,
                                                                 const struct sur_quant_group *g, int j)
{
    return (struct acc){dot(a.high, w, g->high + 4 * j), dot(a.low, w, g->low + 4 * j)};
}

static inline __attribute__((always_inline)) quant_vi acc_sum(struct acc a)
{
    return (a.high << 8) + a.low;
}

static inline void put_group(struct sur_quant_group *to, const int32_t *q)
{
    for (int i = 0; i < SUR_GROUP; i++) {
        int32_t high = (q[i] + 128) >> 8;
        to->high[i] = (int8_t)high;
        to->low[i] = (int8_t)(q[i] - high * 256);
    }
}
