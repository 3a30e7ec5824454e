/* SPDX-License-Identifier: Apache-2.0 */
/* The inner loop of 3 x 3 depthwise convolution, in C; wl_nn_m4.c has it in assembly. */
#include "wl_nn_core.h"

#if !WL_ASSEMBLY

/*
 * Three cells each of three rows, two outputs at a time. Weights w0 w1 | w2 w1 meet the cells
 * x0 x1 | x2 x3: x0 w0 + x1 w1, x2 w2 and, a cell on, x1 w0, x2 w1 + x3 w2.
 */
WL_INLINE void lane_row(const int16_t *x, const int16_t *w, size_t stride, int32_t *a, int32_t *b)
{
#if WL_DSP
    const uint32_t first = wl_pair_at(x), second = wl_pair_at(x + 2);
    const uint32_t low = wl_pair_at(w), high = wl_pair_at(w + 2);
    *a = wl_smlabb(second, high, wl_smlad(first, low, *a));
    if (stride == 1)
        *b = wl_smladx(second, high, wl_smlatb(first, low, *b));
    else
        *b = wl_smlabb(wl_pair_at(x + 4), high, wl_smlad(second, low, *b));
#else
    const int32_t p = w[0], q = w[1], t = w[2];
    *a += x[0] * p + x[1] * q + x[2] * t;
    *b += x[stride] * p + x[stride + 1] * q + x[stride + 2] * t;
#endif
}

WL_INLINE void lane(const wl_lane_t *l, const wl_cells_t *cells, int8_t *out, size_t stride)
{
    const wl_short_t s = {l->factor, l->added, l->shift};
    const int16_t *x0 = cells->rows[0], *x1 = cells->rows[1], *x2 = cells->rows[2];
    const size_t step = l->step;

    for (;; out += 2 * step, x0 += 2 * stride, x1 += 2 * stride, x2 += 2 * stride) {
        int32_t a = l->bias[0], b = l->bias[1];
        if (x0 == cells->end && !cells->odd)
            return;
        lane_row(x0, l->weights, stride, &a, &b);
        lane_row(x1, l->weights + 4, stride, &a, &b);
        lane_row(x2, l->weights + 8, stride, &a, &b);
        out[0] = wl_shortly(a, &s, 1);
        if (x0 == cells->end)
            return;
        out[step] = wl_shortly(b, &s, 1);
    }
}

void wl_lane1(const wl_lane_t *l, const wl_cells_t *cells, int8_t *out) { lane(l, cells, out, 1); }

void wl_lane2(const wl_lane_t *l, const wl_cells_t *cells, int8_t *out) { lane(l, cells, out, 2); }

#endif
