/* SPDX-License-Identifier: Apache-2.0 */
/* One bit a value: above or below the mean. */
#include "waist_internal.h"

#define SUM_PRE 0x1p-32f

enum side { ALL, BELOW, NOT_BELOW };

/* Adds x[i] * pre of the chosen side to lane i % 16; the others add zero. count <= a sum block. */
static void add_lanes(const float *restrict x, size_t count, enum side side, float threshold,
                      float pre, float *restrict lanes)
{
    size_t i, j;

/* Four rows a turn, still one after the other in each lane. */
#define TERM(row, keep) v = x[i + j + (row) * WAIST_LANES], lane += (keep) ? v * pre : 0.0f
#define ADD(keep)                                                                                  \
    for (i = 0; i + 4 * WAIST_LANES <= count; i += 4 * WAIST_LANES)                                \
        for (j = 0; j < WAIST_LANES; j++) {                                                        \
            float v, lane = lanes[j];                                                              \
            TERM(0, keep), TERM(1, keep), TERM(2, keep), TERM(3, keep);                            \
            lanes[j] = lane;                                                                       \
        }                                                                                          \
    for (; i < count; i++) {                                                                       \
        float v = x[i];                                                                            \
        lanes[i % WAIST_LANES] += (keep) ? v * pre : 0.0f;                                         \
    }

    if (side == ALL) {
        ADD(1)
    } else if (side == BELOW) {
        ADD(v < threshold)
    } else {
        ADD(v >= threshold)
    }
#undef ADD
#undef TERM
}

static float fold(float *lanes)
{
    for (size_t half = WAIST_LANES / 2; half > 0; half /= 2)
        for (size_t j = 0; j < half; j++)
            lanes[j] += lanes[j + half];
    return lanes[0] + 0.0f;
}

static float sum(const float *x, size_t count, enum side side, float threshold, float pre)
{
    float totals[WAIST_LANES] = {0.0f};
    size_t block = 0;

    for (size_t at = 0; at < count; at += WAIST_SUM_BLOCK, block++) {
        float lanes[WAIST_LANES] = {0.0f};
        size_t some = count - at < WAIST_SUM_BLOCK ? count - at : WAIST_SUM_BLOCK;
        add_lanes(x + at, some, side, threshold, pre, lanes);
        totals[block % WAIST_LANES] += fold(lanes);
    }
    return fold(totals);
}

float waist_sum(const float *x, size_t count)
{
    return sum(x, count, ALL, 0.0f, 1.0f);
}

/* Mean of the `number` values on one side, kept within [lo, hi]. */
static float mean(const float *x, size_t count, enum side side, float threshold, size_t number,
                  float lo, float hi)
{
    float m = sum(x, count, side, threshold, 1.0f);
    if (waist_is_finite(m))
        m = m / (float)number;
    else
        m = sum(x, count, side, threshold, SUM_PRE) / (float)number / SUM_PRE;
    m = m > lo ? m : lo;
    return m < hi ? m : hi;
}

int waist_q2_encode(const float *x, size_t count, int conditional, float values[2],
                    uint8_t *packed)
{
    const waist_shape whole = {1, 1, count};
    float lo, hi, threshold;
    size_t above = 0;
    int constant;

    if (waist_minmax(x, whole, &lo, &hi) != WAIST_OK)
        return WAIST_NONFINITE;
    constant = lo == hi;
    threshold = constant ? lo : mean(x, count, ALL, 0.0f, count, lo, hi);
    for (size_t at = 0; at < count; at += WAIST_BLOCK) {
        waist_block block;
        uint32_t ones = 0;
        size_t here = waist_here(count, at);
        for (size_t i = 0; i < here; i++)
            block.codes[i] = (uint8_t)(!constant & (x[at + i] >= threshold));
        for (size_t i = 0; i < here; i++)
            ones += block.codes[i];
        above += ones;
        waist_pack_block(&block, here, 1, packed + at / 8);
    }
    values[0] = values[1] = threshold;
    if (constant)
        return WAIST_OK;
    if (!conditional) {
        float low = threshold - hi;
        values[0] = low > -FLT_MAX ? low : -FLT_MAX;
    } else {
        if (above < count)
            values[0] = mean(x, count, BELOW, threshold, count - above, lo, hi);
        if (above > 0)
            values[1] = mean(x, count, NOT_BELOW, threshold, above, lo, hi);
    }
    values[0] += 0.0f;
    values[1] += 0.0f;
    return WAIST_OK;
}

void waist_q2_decode(const uint8_t *packed, size_t count, const float values[2], float *x)
{
    const float low = values[0], high = values[1];

    for (size_t at = 0; at < count; at += WAIST_BLOCK) {
        waist_block block;
        size_t here = waist_here(count, at);
        waist_unpack_block(packed + at / 8, here, 1, &block);
        for (size_t i = 0; i < here; i++)
            x[at + i] = block.codes[i] ? high : low;
    }
}
