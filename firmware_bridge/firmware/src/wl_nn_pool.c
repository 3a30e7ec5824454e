/* SPDX-License-Identifier: Apache-2.0 */
/* Pooling: four channels at a time, the window innermost. */
#include "wl_nn_core.h"

int wl_pool_valid(const wl_pool_t *p)
{
    return wl_windows_valid(p->in_h, p->out_h, p->kernel_h, p->stride_h, p->pad_top) &&
           wl_windows_valid(p->in_w, p->out_w, p->kernel_w, p->stride_w, p->pad_left) &&
           p->in_c > 0 && p->act_min <= p->act_max;
}

/* What of a window lies in the input. */
typedef struct {
    const int8_t *at;
    size_t rows, columns;
    size_t pixel, line; /* bytes from one to the next */
} part_t;

static part_t part_of(const wl_pool_t *p, const int8_t *in, uint32_t row, uint32_t column)
{
    part_t w;
    int32_t y = (int32_t)(row * p->stride_h) - p->pad_top, y_end = y + p->kernel_h;
    int32_t x = (int32_t)(column * p->stride_w) - p->pad_left, x_end = x + p->kernel_w;
    y = y < 0 ? 0 : y;
    x = x < 0 ? 0 : x;
    y_end = y_end > p->in_h ? p->in_h : y_end;
    x_end = x_end > p->in_w ? p->in_w : x_end;
    w.pixel = p->in_c;
    w.line = w.pixel * p->in_w;
    w.at = in + (size_t)y * w.line + (size_t)x * w.pixel;
    w.rows = (size_t)(y_end - y);
    w.columns = (size_t)(x_end - x);
    return w;
}

static int8_t largest(const part_t *w, const int8_t *at)
{
    int8_t best = *at;
    for (size_t y = 0; y < w->rows; y++, at += w->line) {
        const int8_t *from = at;
        for (size_t x = 0; x < w->columns; x++, from += w->pixel)
            best = *from > best ? *from : best;
    }
    return best;
}

#if WL_DSP
static uint32_t largest_four(const part_t *w, const int8_t *at)
{
    uint32_t best = wl_load32(at);
    for (size_t y = 0; y < w->rows; y++, at += w->line) {
        const int8_t *from = at;
        for (size_t x = 0; x < w->columns; x++, from += w->pixel)
            best = wl_max4(wl_load32(from), best);
    }
    return best;
}
#endif

static void largest_of(const part_t *w, size_t channels, int8_t *out)
{
    size_t c = 0;
#if WL_DSP
    for (; c + 4 <= channels; c += 4)
        wl_store32(out + c, largest_four(w, w->at + c));
#endif
    for (; c < channels; c++)
        out[c] = largest(w, w->at + c);
}

void wl_max_pool(const wl_pool_t *p, const int8_t *in, int8_t *out)
{
    const int clamps = p->act_min != -128 || p->act_max != 127;
    for (uint32_t y = 0; y < p->out_h; y++)
        for (uint32_t x = 0; x < p->out_w; x++, out += p->in_c) {
            const part_t w = part_of(p, in, y, x);
            largest_of(&w, p->in_c, out);
            for (size_t c = 0; clamps && c < p->in_c; c++)
                out[c] = (int8_t)wl_clamp(out[c], p->act_min, p->act_max);
        }
}

static int32_t sum_of(const part_t *w, const int8_t *at)
{
    int32_t sum = 0;
    for (size_t y = 0; y < w->rows; y++, at += w->line) {
        const int8_t *from = at;
        for (size_t x = 0; x < w->columns; x++, from += w->pixel)
            sum += *from;
    }
    return sum;
}

/* Sums of four channels; `sums` in their order. */
static void sums_of_four(const part_t *w, const int8_t *at, int32_t sums[4])
{
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (size_t y = 0; y < w->rows; y++, at += w->line) {
        const int8_t *from = at;
        for (size_t x = 0; x < w->columns; x++, from += w->pixel) {
            a += from[0];
            b += from[1];
            c += from[2];
            d += from[3];
        }
    }
    sums[0] = a, sums[1] = b, sums[2] = c, sums[3] = d;
}

static int8_t average(const wl_pool_t *p, int32_t sum, int32_t count)
{
    const int32_t half = count / 2;
    return (int8_t)wl_clamp((sum > 0 ? sum + half : sum - half) / count, p->act_min, p->act_max);
}

void wl_average_pool(const wl_pool_t *p, const int8_t *in, int8_t *out)
{
    for (uint32_t y = 0; y < p->out_h; y++)
        for (uint32_t x = 0; x < p->out_w; x++, out += p->in_c) {
            const part_t w = part_of(p, in, y, x);
            const int32_t count = (int32_t)(w.rows * w.columns);
            size_t c = 0;
            for (; c + 4 <= p->in_c; c += 4) {
                int32_t sums[4];
                sums_of_four(&w, w.at + c, sums);
                for (size_t i = 0; i < 4; i++)
                    out[c + i] = average(p, sums[i], count);
            }
            for (; c < p->in_c; c++)
                out[c] = average(p, sum_of(&w, w.at + c), count);
        }
}

int wl_mean_valid(const wl_mean_t *p)
{
    return p->pixels > 0 && p->pixels <= 1u << 22 && p->channels > 0 && p->act_min <= p->act_max;
}

void wl_mean(const wl_mean_t *p, const int8_t *in, int8_t *out)
{
    const wl_out_t to = {p->out_zero, p->act_min, p->act_max};
    const part_t w = {in, 1, p->pixels, p->channels, 0};
    size_t c = 0;

    for (; c + 4 <= p->channels; c += 4) {
        int32_t sums[4];
        sums_of_four(&w, in + c, sums);
        for (size_t i = 0; i < 4; i++)
            out[c + i] = wl_exact(sums[i] + p->requant->bias, p->requant, &to);
    }
    for (; c < p->channels; c++)
        out[c] = wl_exact(sum_of(&w, in + c) + p->requant->bias, p->requant, &to);
}
