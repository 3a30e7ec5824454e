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

/* One element of each of four channels: bytes of `four`. */
WL_INLINE void put_one(uint32_t four, int16_t *to, size_t cells)
{
    to[0] = (int8_t)(four & 0xffu);
    to[cells] = (int8_t)(four >> 8 & 0xffu);
    to[2 * cells] = (int8_t)(four >> 16 & 0xffu);
    to[3 * cells] = (int8_t)(four >> 24);
}

/* Two neighbours of each; `to` is at an even cell. */
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
    put_one(first, to, cells);
    put_one(second, to + 1, cells);
#endif
}

/* Bytes of `count` channels; what is missing is not used. */
WL_INLINE uint32_t channels_at(const int8_t *from, size_t count)
{
    if (count == GROUP)
        return wl_load32(from);
    uint32_t four = 0;
    for (size_t i = 0; i < count; i++)
        four |= (uint32_t)(uint8_t)from[i] << (8 * i);
    return four;
}

/* Row y of the input for `count` channels from `in` on, into rows of cells. */
static void take_row(const wl_depthwise_t *p, const int8_t *in, int32_t y, size_t count, int16_t *to)
{
    const size_t cells = row_cells(p), step = p->in_c;
    const uint32_t zeros = (uint8_t)p->in_zero * 0x01010101u;
    const int inside = y >= 0 && y < p->in_h;
    size_t cell = 0, end = p->pad_left;

    for (; cell < end && cell < cells; cell++)
        put_one(zeros, to + cell, cells);
    if (inside) {
        const int8_t *from = in + (size_t)y * p->in_w * step;
        end = (size_t)p->pad_left + p->in_w < cells ? (size_t)p->pad_left + p->in_w : cells;
        if (cell % 2 && cell < end) {
            put_one(channels_at(from, count), to + cell, cells);
            from += step;
            cell++;
        }
        if (count == GROUP)
            for (; cell + 1 < end; cell += 2, from += 2 * step)
                put_two(wl_load32(from), wl_load32(from + step), to + cell, cells);
        for (; cell < end; cell++, from += step)
            put_one(channels_at(from, count), to + cell, cells);
    }
    for (; cell < cells; cell++)
        put_one(zeros, to + cell, cells);
}

typedef struct {
    const int16_t *weights;
    const wl_requant_t *requant;
    size_t count;    /* outputs in the row */
    size_t step;     /* bytes from one to the next */
    size_t stride;   /* cells from one to the next */
    size_t kernel_h, kernel_w;
    wl_out_t out;
    int is_short;
} row_t;

WL_INLINE int8_t finished(const row_t *r, int32_t acc, const wl_short_t *s)
{
    return r->is_short ? wl_shortly(acc, s, 1) : wl_exact(acc >> 1, r->requant, &r->out);
}

#if WL_DSP
WL_INLINE uint32_t pair_at(const int16_t *at)
{
    uint32_t word;
    __builtin_memcpy(&word, at, 4);
    return word;
}
#endif

/* Any kernel. `rows`: kernel_h rows of cells. */
static void any_row(const row_t *r, const int16_t *const *rows, int8_t *out)
{
    const wl_short_t s = wl_short_of(r->requant, &r->out, 1);

    for (size_t i = 0; i < r->count; i++, out += r->step) {
        const int16_t *w = r->weights;
        int32_t acc = r->requant->bias * 2;
        for (size_t ky = 0; ky < r->kernel_h; ky++, w += (r->kernel_w + 1u) & ~(size_t)1u) {
            const int16_t *x = rows[ky] + i * r->stride;
            size_t kx = 0;
#if WL_DSP
            for (; kx + 1 < r->kernel_w; kx += 2)
                acc = wl_smlad(pair_at(x + kx), pair_at(w + kx), acc);
#endif
            for (; kx < r->kernel_w; kx++)
                acc += x[kx] * w[kx];
        }
        *out = finished(r, acc, &s);
    }
}

/*
 * 3 x 3, two outputs at a time, one or two cells apart. Weights w0 w1 | w2 w1 meet the cells
 * x0 x1 | x2 x3: x0 w0 + x1 w1, x2 w2 and, a cell on, x1 w0, x2 w1 + x3 w2.
 */
WL_INLINE void three_row(const row_t *r, const int16_t *const *rows, int8_t *out, size_t stride,
                         int is_short)
{
    const wl_short_t s = wl_short_of(r->requant, &r->out, 1);
    const int32_t bias = r->requant->bias * 2;
    const size_t step = r->step;
    const int16_t *x0 = rows[0], *x1 = rows[1], *x2 = rows[2];
#if WL_DSP
    const uint32_t w0 = pair_at(r->weights), v0 = pair_at(r->weights + 2);
    const uint32_t w1 = pair_at(r->weights + 4), v1 = pair_at(r->weights + 6);
    const uint32_t w2 = pair_at(r->weights + 8), v2 = pair_at(r->weights + 10);
#define WL_ROW(x, w, v)                                                                           \
    do {                                                                                          \
        const uint32_t first = pair_at(x), second = pair_at((x) + 2);                             \
        a = wl_smlad(first, w, a);                                                                \
        a = wl_smlabb(second, v, a);                                                              \
        if (stride == 1) {                                                                        \
            b = wl_smlatb(first, w, b);                                                           \
            b = wl_smladx(second, v, b);                                                          \
        } else {                                                                                  \
            b = wl_smlad(second, w, b);                                                           \
            b = wl_smlabb(pair_at((x) + 4), v, b);                                                \
        }                                                                                         \
    } while (0)
#define WL_ROWS                                                                                   \
    do {                                                                                          \
        WL_ROW(x0, w0, v0);                                                                       \
        WL_ROW(x1, w1, v1);                                                                       \
        WL_ROW(x2, w2, v2);                                                                       \
    } while (0)
#else
#define WL_ROW(x, w)                                                                              \
    do {                                                                                          \
        const int32_t p = (w)[0], q = (w)[1], t = (w)[2];                                         \
        a += (x)[0] * p + (x)[1] * q + (x)[2] * t;                                                \
        b += (x)[stride] * p + (x)[stride + 1] * q + (x)[stride + 2] * t;                         \
    } while (0)
#define WL_ROWS                                                                                   \
    do {                                                                                          \
        WL_ROW(x0, r->weights);                                                                   \
        WL_ROW(x1, r->weights + 4);                                                               \
        WL_ROW(x2, r->weights + 8);                                                               \
    } while (0)
#endif
    for (size_t left = r->count;;) {
        int32_t a = bias, b = bias;
        WL_ROWS;
        out[0] = is_short ? wl_shortly(a, &s, 1) : wl_exact(a >> 1, r->requant, &r->out);
        if (left == 1)
            return;
        out[step] = is_short ? wl_shortly(b, &s, 1) : wl_exact(b >> 1, r->requant, &r->out);
        left -= 2;
        if (left == 0)
            return;
        out += 2 * step;
        x0 += 2 * stride, x1 += 2 * stride, x2 += 2 * stride;
    }
}

static void one_row(const row_t *r, const int16_t *const *rows, int8_t *out)
{
    const int is_three = r->kernel_w == 3 && r->kernel_h == 3;
    if (is_three && r->is_short && r->stride == 1)
        three_row(r, rows, out, 1, 1);
    else if (is_three && r->is_short && r->stride == 2)
        three_row(r, rows, out, 2, 1);
    else
        any_row(r, rows, out);
}

void wl_depthwise(const wl_depthwise_t *p, const int8_t *in, int8_t *out, void *scratch)
{
    const size_t cells = row_cells(p), weights = p->kernel_h * row_weights(p);
    const size_t channels = wl_depthwise_records(p);
    const int16_t *rows[WL_NN_MAX_ROWS];
    row_t r = {p->weights, p->requant, p->out_w, channels, p->stride_w,
               p->kernel_h, p->kernel_w, {p->out_zero, p->act_min, p->act_max}, 0};

    r.is_short = wl_all_short(p->requant, channels, &r.out);
    for (size_t c = 0; c < p->in_c; c += GROUP) {
        const size_t count = p->in_c - c < GROUP ? p->in_c - c : GROUP;
        uint32_t taken = 0; /* rows, from the first of the padding */
        int16_t *const kept = scratch;

        for (uint32_t y = 0; y < p->out_h; y++) {
            const uint32_t first = y * p->stride_h;
            for (uint32_t k = taken > first ? taken : first; k < first + p->kernel_h; k++)
                take_row(p, in + c, (int32_t)k - p->pad_top, count,
                         kept + k % p->kernel_h * GROUP * cells);
            taken = first + p->kernel_h;
            for (size_t k = 0; k < count; k++) {
                int8_t *to = out + y * p->out_w * channels + (c + k) * p->multiplier;
                for (uint32_t ky = 0; ky < p->kernel_h; ky++)
                    rows[ky] = kept + ((first + ky) % p->kernel_h * GROUP + k) * cells;
                for (uint32_t j = 0; j < p->multiplier; j++) {
                    r.weights = p->weights + ((c + k) * p->multiplier + j) * weights;
                    r.requant = p->requant + (c + k) * p->multiplier + j;
                    one_row(&r, rows, to + j);
                }
            }
        }
    }
}
