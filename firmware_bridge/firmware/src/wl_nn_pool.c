/* SPDX-License-Identifier: Apache-2.0 */
/* Pooling: the window innermost. */
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

/* Every output pixel; `reduce` puts out its channels. */
static void each_window(const wl_pool_t *p, const int8_t *in, int8_t *out,
                        void (*reduce)(const wl_pool_t *p, const part_t *w, int8_t *out))
{
    for (uint32_t y = 0; y < p->out_h; y++)
        for (uint32_t x = 0; x < p->out_w; x++, out += p->in_c) {
            const part_t w = part_of(p, in, y, x);
            reduce(p, &w, out);
        }
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

static void largest_of(const wl_pool_t *p, const part_t *w, int8_t *out)
{
    size_t c = 0;
#if WL_DSP
    for (; c + 4 <= p->in_c; c += 4)
        wl_store32(out + c, largest_four(w, w->at + c));
#endif
    for (; c < p->in_c; c++)
        out[c] = largest(w, w->at + c);
    if (p->act_min != -128 || p->act_max != 127)
        for (c = 0; c < p->in_c; c++)
            out[c] = (int8_t)wl_clamp(out[c], p->act_min, p->act_max);
}

void wl_max_pool(const wl_pool_t *p, const int8_t *in, int8_t *out)
{
    each_window(p, in, out, largest_of);
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

static void average_of(const wl_pool_t *p, const part_t *w, int8_t *out)
{
    const int32_t count = (int32_t)(w->rows * w->columns), half = count / 2;

    for (size_t c = 0; c < p->in_c; c++) {
        const int32_t sum = sum_of(w, w->at + c);
        out[c] = (int8_t)wl_clamp((sum > 0 ? sum + half : sum - half) / count, p->act_min,
                                  p->act_max);
    }
}

void wl_average_pool(const wl_pool_t *p, const int8_t *in, int8_t *out)
{
    each_window(p, in, out, average_of);
}

int wl_mean_valid(const wl_mean_t *p)
{
    return p->pixels > 0 && p->pixels <= 1u << 22 && p->channels > 0 && p->act_min <= p->act_max;
}

void wl_mean(const wl_mean_t *p, const int8_t *in, int8_t *out)
{
    const wl_out_t to = {p->out_zero, p->act_min, p->act_max};
    const part_t w = {in, 1, p->pixels, p->channels, 0};

    for (size_t c = 0; c < p->channels; c++)
        out[c] = wl_exact(sum_of(&w, in + c) + p->requant->bias, p->requant, &to);
}
