/* SPDX-License-Identifier: Apache-2.0 */
/* Convolution and fully connected layers: pixels become columns of a matrix, four at a time. */
#include "wl_nn_core.h"

static size_t row_bytes(const wl_conv2d_t *p) { return (size_t)p->kernel_w * p->in_c; }

static size_t rounded4(size_t count) { return (count + 3u) & ~(size_t)3u; }

static size_t depth4_of(const wl_conv2d_t *p) { return rounded4(p->kernel_h * row_bytes(p)); }

size_t wl_conv2d_weight_bytes(const wl_conv2d_t *p)
{
    return wl_conv2d_records(p) * depth4_of(p);
}

size_t wl_conv2d_records(const wl_conv2d_t *p) { return (p->out_c + 1u) & ~(size_t)1u; }

size_t wl_conv2d_scratch_bytes(const wl_conv2d_t *p)
{
    return p->in_c % 4u ? 9u * depth4_of(p) + 4u : 8u * depth4_of(p);
}

int wl_windows_valid(uint32_t in, uint32_t out, uint32_t kernel, uint32_t stride, uint32_t pad)
{
    return in > 0 && out > 0 && kernel > 0 && stride > 0 && pad < kernel &&
           (uint64_t)(out - 1u) * stride < (uint64_t)in + pad;
}

int wl_conv2d_valid(const wl_conv2d_t *p)
{
    return wl_windows_valid(p->in_h, p->out_h, p->kernel_h, p->stride_h, p->pad_top) &&
           wl_windows_valid(p->in_w, p->out_w, p->kernel_w, p->stride_w, p->pad_left) &&
           p->in_c > 0 && p->out_c > 0 && p->act_min <= p->act_max &&
           (uint64_t)p->kernel_h * p->kernel_w * p->in_c <= WL_NN_MAX_DEPTH;
}

static void fill(int8_t *to, size_t count, int8_t value)
{
    for (; count > 0; count--)
        *to++ = value;
}

/* Elements of padding, four at a time, as wl_widen would leave them. */
static int8_t *widen_value(int8_t value, size_t count, int8_t *to, size_t pixels)
{
    const int8_t four[4] = {value, value, value, value};
    for (size_t i = 0; i < count; i += 4, to += 8 * pixels)
        wl_widen(four, 1, to, pixels);
    return to;
}

/* Where the window of an output pixel lies in the input, and which of its columns are in it. */
typedef struct {
    int32_t y, x;
    size_t from, to;
} window_t;

static window_t window_at(const wl_conv2d_t *p, uint32_t row, uint32_t column)
{
    window_t w;
    const int32_t in_w = p->in_w, kernel_w = p->kernel_w;
    w.y = (int32_t)(row * p->stride_h) - p->pad_top;
    w.x = (int32_t)(column * p->stride_w) - p->pad_left;
    w.from = (size_t)(w.x < 0 ? -w.x : 0);
    w.to = (size_t)(w.x + kernel_w > in_w ? in_w - w.x : kernel_w);
    return w;
}

static const int8_t *row_of(const wl_conv2d_t *p, const int8_t *in, int32_t y, int32_t x)
{
    return in + ((ptrdiff_t)y * p->in_w + x) * (ptrdiff_t)p->in_c;
}

/* With a multiple of 4 channels the rows are widened where they lie. */
static void column_of_fours(const wl_conv2d_t *p, const int8_t *in, window_t w, int8_t *to,
                            size_t pixels)
{
    const size_t c = p->in_c, row = row_bytes(p);
    const size_t before = w.from * c, inside = (w.to - w.from) * c;
    for (int32_t y = w.y; y < w.y + p->kernel_h; y++) {
        if (y < 0 || y >= p->in_h) {
            to = widen_value(p->in_zero, row, to, pixels);
        } else if (inside == row) {
            wl_widen(row_of(p, in, y, w.x), row / 4, to, pixels);
            to += 2 * pixels * row;
        } else {
            to = widen_value(p->in_zero, before, to, pixels);
            wl_widen(row_of(p, in, y, w.x) + before, inside / 4, to, pixels);
            to += 2 * pixels * inside;
            to = widen_value(p->in_zero, row - before - inside, to, pixels);
        }
    }
}

/*
 * Otherwise they are first put together in `bytes`, by words that may reach up to 3 bytes over a
 * row's end: the next row, or nobody, needs those. Not so at the end of the input.
 */
static void column_of_bytes(const wl_conv2d_t *p, const int8_t *in, window_t w, int8_t *bytes)
{
    const size_t c = p->in_c, row = row_bytes(p);
    const int8_t *end = in + (size_t)p->in_h * p->in_w * c;
    for (int32_t y = w.y; y < w.y + p->kernel_h; y++, bytes += row) {
        if (y < 0 || y >= p->in_h) {
            fill(bytes, row, p->in_zero);
            continue;
        }
        const int8_t *from = row_of(p, in, y, w.x);
        if (w.to - w.from == p->kernel_w && (size_t)(end - from) >= rounded4(row)) {
            for (size_t i = 0; i < row; i += 4)
                wl_store32(bytes + i, wl_load32(from + i));
        } else {
            fill(bytes, w.from * c, p->in_zero);
            for (size_t i = w.from * c; i < w.to * c; i++)
                bytes[i] = from[i];
            fill(bytes + w.to * c, (p->kernel_w - w.to) * c, p->in_zero);
        }
    }
}

/* The column of one output pixel, interleaved with those of `pixels` - 1 others. */
static void column_of(const wl_conv2d_t *p, const int8_t *in, window_t w, int8_t *bytes, int8_t *to,
                      size_t pixels)
{
    if (p->in_c % 4u == 0) {
        column_of_fours(p, in, w, to, pixels);
    } else {
        column_of_bytes(p, in, w, bytes);
        wl_widen(bytes, depth4_of(p) / 4, to, pixels);
    }
}

void wl_conv2d(const wl_conv2d_t *p, const int8_t *in, int8_t *out, void *scratch)
{
    const size_t count = (size_t)p->out_h * p->out_w;
    const wl_out_t to = {p->out_zero, p->act_min, p->act_max};
    const wl_matrix_t m = {
        p->weights, p->requant, depth4_of(p), p->out_c, to,
        wl_all_short(p->requant, p->out_c, &to),
    };
    int8_t *columns = scratch, *bytes = columns + 8 * m.depth4;
    uint32_t row = 0, x = 0;

    for (size_t done = 0; done < count;) {
        /* Of the last pixels, three cost as much as four, fewer are cheaper one by one. */
        const size_t left = count - done, pixels = left >= 4 ? 4 : 1;
        for (size_t i = 0; i < pixels; i++) {
            column_of(p, in, window_at(p, row, x), bytes, columns + 4 * i, pixels);
            if (++x == p->out_w) {
                x = 0;
                row++;
            }
        }
        if (pixels == 4)
            wl_matrix_four(&m, columns, out);
        else
            wl_matrix_one(&m, columns, out);
        out += pixels * p->out_c;
        done += pixels;
    }
}

size_t wl_dense_records(const wl_dense_t *p) { return (p->outputs + 1u) & ~(size_t)1u; }

size_t wl_dense_weight_bytes(const wl_dense_t *p)
{
    return wl_dense_records(p) * rounded4(p->inputs);
}

size_t wl_dense_scratch_bytes(const wl_dense_t *p) { return 2u * rounded4(p->inputs); }

int wl_dense_valid(const wl_dense_t *p)
{
    return p->inputs > 0 && p->inputs <= WL_NN_MAX_DEPTH && p->outputs > 0 &&
           p->act_min <= p->act_max;
}

void wl_dense(const wl_dense_t *p, const int8_t *in, int8_t *out, void *scratch)
{
    const wl_out_t to = {p->out_zero, p->act_min, p->act_max};
    const wl_matrix_t m = {
        p->weights, p->requant, rounded4(p->inputs), p->outputs, to,
        wl_all_short(p->requant, p->outputs, &to),
    };
    const size_t whole = p->inputs / 4u;
    int8_t *columns = scratch;

    wl_widen(in, whole, columns, 1);
    if (p->inputs % 4u) {
        int8_t four[4] = {0, 0, 0, 0};
        for (size_t i = 4 * whole; i < p->inputs; i++)
            four[i % 4] = in[i];
        wl_widen(four, 1, columns + 8 * whole, 1);
    }
    wl_matrix_one(&m, columns, out);
}
