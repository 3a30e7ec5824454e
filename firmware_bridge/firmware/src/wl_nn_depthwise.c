/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Depthwise convolution. Four channels at a time, rows of the input are taken apart into one
 * padded row of int16 for each channel, kernel_h of which are kept. Then neighbours along a row lie
 * in one word, as a dual multiplication wants them, every element is taken apart once, and the
 * weights of a channel stay in registers for a row. Weights are doubled, so sums are, too.
 */
#include "wl_nn_core.h"

#define GROUP 4u

/* Cells of a padded row: all that is read, an even number. */
static size_t row_cells(const wl_depthwise_t *p)
{
    const size_t pairs = (p->out_w + 1u) & ~(size_t)1u;
    const size_t reach = (p->kernel_w + 1u) & ~(size_t)1u;
    if (p->kernel_w == 3 && p->stride_w <= 2)
        return pairs * p->stride_w + 2;
    return (((size_t)p->out_w - 1u) * p->stride_w + reach + 1u) & ~(size_t)1u;
}

static size_t row_weights(const wl_depthwise_t *p) { return (p->kernel_w + 1u) & ~(size_t)1u; }

size_t wl_depthwise_records(const wl_depthwise_t *p) { return (size_t)p->in_c * p->multiplier; }

size_t wl_depthwise_weight_bytes(const wl_depthwise_t *p)
{
    return 2u * wl_depthwise_records(p) * p->kernel_h * row_weights(p);
}

size_t wl_depthwise_scratch_bytes(const wl_depthwise_t *p)
{
    return 2u * GROUP * p->kernel_h * row_cells(p);
}

int wl_depthwise_valid(const wl_depthwise_t *p)
{
    return wl_windows_valid(p->in_h, p->out_h, p->kernel_h, p->stride_h, p->pad_top) &&
           wl_windows_valid(p->in_w, p->out_w, p->kernel_w, p->stride_w, p->pad_left) &&
           p->in_c > 0 && p->multiplier > 0 && (uint32_t)p->in_c * p->multiplier <= 65535u &&
           p->act_min <= p->act_max && p->kernel_h <= WL_NN_MAX_ROWS;
}

/* Bytes of `count` channels; what is missing is not used. */
static uint32_t channels_at(const int8_t *from, size_t count)
{
    if (count == GROUP)
        return wl_load32(from);
    uint32_t four = 0;
    for (size_t i = 0; i < count; i++)
        four |= (uint32_t)(uint8_t)from[i] << (8 * i);
    return four;
}

/* Two neighbours of each of four channels, from the bytes of `first` and `second`. */
WL_INLINE void put_two(uint32_t first, uint32_t second, int16_t *to, size_t cells)
{
#if WL_DSP
    const uint32_t a = wl_sxtb16(first), b = wl_sxtb16(second);
    const uint32_t c = wl_sxtb16_odd(first), d = wl_sxtb16_odd(second);
    const uint32_t words[4] = {
        wl_low_halves(a, b),
        wl_low_halves(c, d),
        wl_high_halves(a, b),
        wl_high_halves(c, d),
    };
    for (size_t i = 0; i < 4; i++)
        __builtin_memcpy(to + i * cells, &words[i], 4);
#else
    for (size_t i = 0; i < 4; i++) {
        to[i * cells] = (int8_t)(first >> (8 * i) & 0xffu);
        to[i * cells + 1] = (int8_t)(second >> (8 * i) & 0xffu);
    }
#endif
}

/* The same where few are: at the edges. */
static __attribute__((noinline)) void put_few(uint32_t first, uint32_t second, int16_t *to,
                                              size_t cells)
{
    put_two(first, second, to, cells);
}

/* How the pairs of a padded row lie over the input. */
typedef struct {
    size_t cells, step, width;
    size_t zeros;  /* pairs of padding */
    size_t pad;    /* columns of padding: if odd, one is in a pair with the first column */
    size_t inside; /* pairs that end before this one lie in the input, but for the first */
    uint32_t value;
} take_t;

/* One row of the input for `count` channels into rows of cells; `in` NULL: a row of padding. */
static void take_row(const take_t *t, const int8_t *in, size_t count, int16_t *to)
{
    const size_t cells = t->cells, step = t->step;
    const int16_t *const end = to + cells, *inside = to + t->inside;
    const int8_t *last;

    if (in == NULL) {
        for (; to != end; to += 2)
            put_few(t->value, t->value, to, cells);
        return;
    }
    last = in + t->width * step;
    for (size_t i = t->zeros; i > 0; i--, to += 2)
        put_few(t->value, t->value, to, cells);
    if (t->pad % 2 && to != end) {
        put_few(t->value, channels_at(in, count), to, cells);
        to += 2;
        in += step;
    }
    if (count == GROUP)
        for (; to < inside; to += 2, in += 2 * step)
            put_two(wl_load32(in), wl_load32(in + step), to, cells);
    for (; to != end; to += 2, in += 2 * step) {
        uint32_t first = t->value, second = t->value;
        if (in < last)
            first = channels_at(in, count);
        if (in < last && in + step < last)
            second = channels_at(in + step, count);
        put_few(first, second, to, cells);
    }
}

/* A row of outputs of one channel; any kernel. */
static void any_row(const wl_depthwise_t *p, const wl_requant_t *r, const int16_t *weights,
                    const int16_t *const *rows, int8_t *out)
{
    const wl_out_t to = {p->out_zero, p->act_min, p->act_max};
    const size_t width = row_weights(p), channels = wl_depthwise_records(p);

    for (size_t i = 0; i < p->out_w; i++, out += channels) {
        const int16_t *w = weights;
        int32_t acc = r->bias * 2;
        for (size_t ky = 0; ky < p->kernel_h; ky++, w += width) {
            const int16_t *x = rows[ky] + i * p->stride_w;
            size_t kx = 0;
#if WL_DSP
            for (; kx + 1 < p->kernel_w; kx += 2)
                acc = wl_smlad(wl_pair_at(x + kx), wl_pair_at(w + kx), acc);
#endif
            for (; kx < p->kernel_w; kx++)
                acc += x[kx] * w[kx];
        }
        *out = wl_exact(acc >> 1, r, &to);
    }
}

static wl_lane_t lane_of(const wl_depthwise_t *p, const wl_out_t *o, size_t channel)
{
    const wl_requant_t *r = p->requant + channel;
    const wl_short_t s = wl_short_of(r, o, 1);
    const int16_t *w = p->weights + 12 * channel;
    wl_lane_t l;
    l.bias[0] = l.bias[1] = r->bias * 2;
    l.added = s.added;
    l.factor = s.factor;
    l.shift = s.shift;
    l.step = p->in_c;
    for (size_t i = 0; i < 12; i += 2)
        __builtin_memcpy(l.weights + i, w + i, 4);
    return l;
}

/* A row of outputs of `count` channels, 3 x 3, short requantization, one output a channel. */
static void lanes_row(const wl_depthwise_t *p, const wl_lane_t *lanes, size_t count,
                      const int16_t *const *rows, int8_t *out)
{
    const size_t cells = row_cells(p);
    wl_cells_t at = {
        {rows[0], rows[1], rows[2]},
        rows[0] + p->out_w / 2u * 2u * p->stride_w,
        p->out_w % 2u,
    };
    for (size_t k = 0; k < count; k++) {
        if (p->stride_w == 1)
            wl_lane1(&lanes[k], &at, out + k);
        else
            wl_lane2(&lanes[k], &at, out + k);
        at.rows[0] += cells;
        at.rows[1] += cells;
        at.rows[2] += cells;
        at.end += cells;
    }
}

static void any_rows(const wl_depthwise_t *p, size_t first, size_t count, const int16_t **rows,
                     int8_t *out)
{
    const size_t weights = p->kernel_h * row_weights(p), end = (first + count) * p->multiplier;
    for (size_t k = first * p->multiplier; k < end;) {
        for (size_t j = 0; j < p->multiplier; j++, k++)
            any_row(p, p->requant + k, p->weights + k * weights, rows, out + k);
        for (size_t ky = 0; ky < p->kernel_h; ky++)
            rows[ky] += row_cells(p);
    }
}

static take_t take_of(const wl_depthwise_t *p)
{
    const size_t cells = row_cells(p), whole = (size_t)p->in_w + p->pad_left;
    const size_t zeros = p->pad_left / 2u, inside = (whole < cells ? whole : cells) & ~(size_t)1u;
    const take_t t = {
        cells, p->in_c, p->in_w, zeros < cells / 2 ? zeros : cells / 2, p->pad_left, inside,
        (uint8_t)p->in_zero * 0x01010101u,
    };
    return t;
}

void wl_depthwise(const wl_depthwise_t *p, const int8_t *in, int8_t *out, void *scratch)
{
    const wl_out_t to = {p->out_zero, p->act_min, p->act_max};
    const size_t channels = wl_depthwise_records(p), line = (size_t)p->in_w * p->in_c;
    const int is_lane = p->kernel_w == 3 && p->kernel_h == 3 && p->stride_w <= 2 &&
                        p->multiplier == 1 && wl_all_short(p->requant, channels, &to);
    const take_t take = take_of(p);
    const int16_t *rows[WL_NN_MAX_ROWS];
    int16_t *const kept = scratch;
    wl_lane_t lanes[GROUP];

    for (size_t c = 0; c < p->in_c; c += GROUP) {
        const size_t count = p->in_c - c < GROUP ? p->in_c - c : GROUP;
        uint32_t taken = 0; /* rows, from the first of the padding */

        for (size_t k = 0; is_lane && k < count; k++)
            lanes[k] = lane_of(p, &to, c + k);
        for (uint32_t y = 0; y < p->out_h; y++) {
            const uint32_t first = y * p->stride_h;
            int8_t *const at = out + y * p->out_w * channels;
            for (uint32_t k = 0; k < p->kernel_h; k++) {
                int16_t *row = kept + (first + k) % p->kernel_h * GROUP * take.cells;
                const int32_t from = (int32_t)(first + k) - p->pad_top;
                rows[k] = row;
                if (first + k >= taken)
                    take_row(&take,
                             from >= 0 && from < p->in_h ? in + (size_t)from * line + c : NULL,
                             count, row);
            }
            taken = first + p->kernel_h;
            if (is_lane)
                lanes_row(p, lanes, count, rows, at + c);
            else
                any_rows(p, c, count, rows, at);
        }
    }
}
