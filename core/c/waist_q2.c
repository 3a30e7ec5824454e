/* SPDX-License-Identifier: Apache-2.0 */
/* One bit a value: above or below the mean. */
#include "waist_internal.h"

#define SUM_PRE 0x1p-32f

enum side { ALL, BELOW, NOT_BELOW };

/* Adds x[i] to lane i % 16; four rows a turn, still one after the other in each lane. */
static void add_lanes(const float *restrict x, size_t count, float *restrict lanes)
{
    size_t i, j;

    for (i = 0; i + 4 * WAIST_LANES <= count; i += 4 * WAIST_LANES)
        for (j = 0; j < WAIST_LANES; j++) {
            float lane = lanes[j] + x[i + j];
            lane += x[i + j + WAIST_LANES];
            lane += x[i + j + 2 * WAIST_LANES];
            lane += x[i + j + 3 * WAIST_LANES];
            lanes[j] = lane;
        }
    for (; i < count; i++)
        lanes[i % WAIST_LANES] += x[i];
}

/*
 * x * pre of one side, zero elsewhere. In two steps: a product that only one side needs would be
 * computed behind a branch for each value.
 */
static void choose(const float *restrict x, size_t count, enum side side, float threshold,
                   float pre, float *restrict kept)
{
    if (side == ALL)
        for (size_t i = 0; i < count; i++)
            kept[i] = x[i];
    else if (side == BELOW)
        for (size_t i = 0; i < count; i++)
            kept[i] = x[i] < threshold ? x[i] : 0.0f;
    else
        for (size_t i = 0; i < count; i++)
            kept[i] = x[i] >= threshold ? x[i] : 0.0f;
    for (size_t i = 0; i < count && pre != 1.0f; i++)
        kept[i] *= pre;
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
    float totals[WAIST_LANES] = {0.0f}, lanes[WAIST_LANES] = {0.0f}, kept[WAIST_BLOCK];
    size_t block = 0;

    for (size_t at = 0; at < count; at += WAIST_BLOCK) {
        size_t here = waist_here(count, at), next = at + here;
        choose(x + at, here, side, threshold, pre, kept);
        add_lanes(kept, here, lanes);
        if (next % WAIST_SUM_BLOCK == 0 || next == count) {
            totals[block++ % WAIST_LANES] += fold(lanes);
            for (size_t j = 0; j < WAIST_LANES; j++)
                lanes[j] = 0.0f;
        }
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
