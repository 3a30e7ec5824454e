/* SPDX-License-Identifier: Apache-2.0 */
/* Minimum, maximum, pinned sums. Sixteen independent lanes let a compiler use vector registers
 * without being allowed to reorder anything. */
#include "waist_internal.h"

static float fold(float lanes[WAIST_LANES])
{
    for (size_t half = WAIST_LANES / 2; half > 0; half /= 2)
        for (size_t j = 0; j < half; j++)
            lanes[j] += lanes[j + half];
    return lanes[0] + 0.0f;
}

/* The sum is finite only if every value is; if large values overflow it, each is looked at. */
int waist_all_finite(const float *restrict x, size_t count)
{
    float sum[WAIST_LANES] = {0.0f};
    size_t i, j;
    int bad = 0;

    for (i = 0; i + 4 * WAIST_LANES <= count; i += 4 * WAIST_LANES)
        for (j = 0; j < WAIST_LANES; j++)
            sum[j] += (x[i + j] + x[i + j + WAIST_LANES]) +
                      (x[i + j + 2 * WAIST_LANES] + x[i + j + 3 * WAIST_LANES]);
    for (; i < count; i++)
        sum[0] += x[i];
    if (waist_is_finite(fold(sum)))
        return 1;
    for (i = 0; i < count; i++)
        bad |= !waist_is_finite(x[i]);
    return !bad;
}

/*
 * One stretch of memory, folded into *lo and *hi. The sum tells NaN and infinity, which minimum and
 * maximum may lose, for one addition a value.
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
    /* Four rows of lanes at once: the lanes are loaded and stored a quarter as often. */
    for (i = 0; i + 4 * WAIST_LANES <= count; i += 4 * WAIST_LANES) {
        const float *restrict p = x + i;
        for (j = 0; j < WAIST_LANES; j++) {
            float v0 = p[j], v1 = p[j + WAIST_LANES];
            float v2 = p[j + 2 * WAIST_LANES], v3 = p[j + 3 * WAIST_LANES];
            float a = v0 < v1 ? v0 : v1, b = v2 < v3 ? v2 : v3;
            float c = v0 > v1 ? v0 : v1, d = v2 > v3 ? v2 : v3;
            a = a < b ? a : b;
            c = c > d ? c : d;
            low[j] = a < low[j] ? a : low[j];
            high[j] = c > high[j] ? c : high[j];
            sum[j] += (v0 + v1) + (v2 + v3);
        }
    }
    for (; i + WAIST_LANES <= count; i += WAIST_LANES) {
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
    return waist_is_finite(total) || waist_all_finite(x, count);
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
