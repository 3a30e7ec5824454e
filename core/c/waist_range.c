/* SPDX-License-Identifier: Apache-2.0 */
/* Minimum, maximum, pinned sums. Sixteen independent lanes let a compiler use vector registers
 * without being allowed to reorder anything. */
#include "waist_internal.h"

static int all_finite(const float *x, size_t count)
{
    int bad = 0;
    for (size_t i = 0; i < count; i++)
        bad |= !waist_is_finite(x[i]);
    return !bad;
}

static float fold(float lanes[WAIST_LANES])
{
    for (size_t half = WAIST_LANES / 2; half > 0; half /= 2)
        for (size_t j = 0; j < half; j++)
            lanes[j] += lanes[j + half];
    return lanes[0] + 0.0f;
}

/*
 * One stretch of memory, folded into *lo and *hi. The sum costs one addition a value and tells NaN
 * and infinity: it is finite only if every value is. If large values overflow it, each is looked
 * at.
 */
static int minmax_run(const float *restrict x, size_t count, float *lo, float *hi)
{
    float low[WAIST_LANES], high[WAIST_LANES], sum[WAIST_LANES];
    float least = *lo, most = *hi, total;
    size_t i, j;

    for (j = 0; j < WAIST_LANES; j++) {
        low[j] = least;
        high[j] = most;
        sum[j] = 0.0f;
    }
    for (i = 0; i + WAIST_LANES <= count; i += WAIST_LANES) {
        for (j = 0; j < WAIST_LANES; j++) {
            float v = x[i + j];
            low[j] = v < low[j] ? v : low[j];
            high[j] = v > high[j] ? v : high[j];
            sum[j] += v;
        }
    }
    total = fold(sum);
    for (j = 0; j < WAIST_LANES; j++) {
        least = low[j] < least ? low[j] : least;
        most = high[j] > most ? high[j] : most;
    }
    for (; i < count; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
        total += x[i];
    }
    *lo = least;
    *hi = most;
    return waist_is_finite(total) || all_finite(x, count);
}

/* inner == 1: neighbours belong to different channels. */
static int minmax_rows(const float *restrict x, waist_shape shape, float *restrict lo,
                       float *restrict hi)
{
    int bad = 0;
    for (size_t o = 0; o < shape.outer; o++, x += shape.channels) {
        for (size_t c = 0; c < shape.channels; c++) {
            float v = x[c];
            lo[c] = v < lo[c] ? v : lo[c];
            hi[c] = v > hi[c] ? v : hi[c];
            bad |= !waist_is_finite(v);
        }
    }
    return !bad;
}

int waist_minmax(const float *x, waist_shape shape, float *lo, float *hi)
{
    int finite = 1;

    for (size_t c = 0; c < shape.channels; c++)
        lo[c] = hi[c] = x[c * shape.inner];
    if (shape.inner == 1 && shape.channels > 1) {
        finite = minmax_rows(x, shape, lo, hi);
    } else {
        for (size_t o = 0; o < shape.outer; o++)
            for (size_t c = 0; c < shape.channels; c++, x += shape.inner)
                finite &= minmax_run(x, shape.inner, lo + c, hi + c);
    }
    for (size_t c = 0; c < shape.channels; c++) {
        lo[c] += 0.0f;
        hi[c] += 0.0f;
    }
    return finite ? WAIST_OK : WAIST_NONFINITE;
}
