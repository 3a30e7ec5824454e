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

/* The window of the next output pixel. */
typedef struct {
    const wl_conv2d_t *p;
    const int8_t *in, *end;
    size_t c, row, line; /* bytes of a pixel, of a row of the kernel, of a row of the input */
    int32_t y, x;        /* of the window, in the input */
    uint32_t column;     /* of the output */
} window_t;

static int is_inside(const window_t *w, int32_t columns)
{
    return w->y >= 0 && w->y + w->p->kernel_h <= w->p->in_h && w->x >= 0 &&
           w->x + columns <= w->p->in_w;
}

static const int8_t *input_at(const window_t *w, int32_t y)
{
    return w->in + (ptrdiff_t)y * (ptrdiff_t)w->line + (ptrdiff_t)w->x * (ptrdiff_t)w->c;
}

static void advance(window_t *w, uint32_t count)
{
    w->column += count;
    w->x += (int32_t)(count * w->p->stride_w);
    if (w->column == w->p->out_w) {
        w->column = 0;
        w->x = -w->p->pad_left;
        w->y += w->p->stride_h;
    }
}

/* Bytes of a row of the kernel before the input and, then, in it. */
static void parts_of(const window_t *w, size_t *before, size_t *inside)
{
    const int32_t in_w = w->p->in_w, kernel_w = w->p->kernel_w;
    const int32_t from = w->x < 0 ? -w->x : 0;
    const int32_t to = w->x + kernel_w > in_w ? in_w - w->x : kernel_w;
    *before = (size_t)from * w->c;
    *inside = (size_t)(to - from) * w->c;
}

/* With a multiple of 4 channels the rows are widened where they lie. */
static void column_of_fours(const window_t *w, int8_t *to, size_t pixels)
{
    const size_t row = w->row;
    size_t before, inside;
    parts_of(w, &before, &inside);
    for (int32_t y = w->y; y < w->y + w->p->kernel_h; y++) {
        if (y < 0 || y >= w->p->in_h) {
            to = widen_value(w->p->in_zero, row, to, pixels);
            continue;
        }
        to = widen_value(w->p->in_zero, before, to, pixels);
        wl_widen(input_at(w, y) + before, inside / 4, to, pixels);
        to += 2 * pixels * inside;
        to = widen_value(w->p->in_zero, row - before - inside, to, pixels);
    }
}

/*
 * Otherwise they are first put together in `bytes`, by words that may reach up to 3 bytes over a
 * row's end: the next row, or nobody, needs those. Not so at the end of the input.
 */
static void column_of_bytes(const window_t *w, int8_t *bytes)
{
    const size_t row = w->row;
    size_t before, inside;

    if (is_inside(w, w->p->kernel_w)) {
        const int8_t *from = input_at(w, w->y);
        size_t rows = w->p->kernel_h;
        if ((size_t)(w->end - from) >= (rows - 1u) * w->line + rounded4(row)) {
            for (; rows > 0; rows--, from += w->line, bytes += row)
                for (size_t i = 0; i < row; i += 4)
                    wl_store32(bytes + i, wl_load32(from + i));
            return;
        }
    }
    parts_of(w, &before, &inside);
    for (int32_t y = w->y; y < w->y + w->p->kernel_h; y++, bytes += row) {
        if (y < 0 || y >= w->p->in_h) {
            fill(bytes, row, w->p->in_zero);
            continue;
        }
        const int8_t *from = input_at(w, y);
        fill(bytes, before, w->p->in_zero);
        for (size_t i = before; i < before + inside; i++)
            bytes[i] = from[i];
        fill(bytes + before + inside, row - before - inside, w->p->in_zero);
    }
}

/* Columns of the next four pixels, interleaved, or of one. */
static void columns_of(window_t *w, size_t depth4, size_t pixels, int8_t *to)
{
    const int32_t stride = w->p->stride_w;
    if (pixels == 4 && w->c % 4u == 0 && w->column + 4u <= w->p->out_w &&
        is_inside(w, 3 * stride + w->p->kernel_w)) {
        const int8_t *from = input_at(w, w->y);
        for (size_t rows = w->p->kernel_h; rows > 0; rows--, from += w->line, to += 8 * w->row)
            wl_widen_four(from, (size_t)stride * w->c, w->row / 4, to);
        advance(w, 4);
        return;
    }
    for (size_t i = 0; i < pixels; i++, to += 4) {
        if (w->c % 4u == 0) {
            column_of_fours(w, to, pixels);
        } else {
            int8_t *const bytes = to - 4 * i + 8 * depth4;
            column_of_bytes(w, bytes);
            wl_widen(bytes, depth4 / 4, to, pixels);
        }
        advance(w, 1);
    }
}

static int is_plain(const wl_conv2d_t *p)
{
    return p->kernel_h == 1 && p->kernel_w == 1 && p->stride_h == 1 && p->stride_w == 1 &&
           p->in_c % 4u == 0 && p->in_w == p->out_w;
}

void wl_conv2d(const wl_conv2d_t *p, const int8_t *in, int8_t *out, void *scratch)
{
    const wl_out_t to = {p->out_zero, p->act_min, p->act_max};
    const wl_matrix_t m = {
        p->weights, p->requant, depth4_of(p), p->out_c, to,
        wl_all_short(p->requant, p->out_c, &to),
    };
    const size_t line = (size_t)p->in_w * p->in_c;
    window_t w = {p,    in, in + p->in_h * line, p->in_c, row_bytes(p),
                  line, -p->pad_top, -p->pad_left, 0};
    const int plain = is_plain(p);
    size_t left = (size_t)p->out_h * p->out_w;

    for (; left >= 4; left -= 4, out += 4u * p->out_c) {
        if (plain) {
            wl_widen_four(in, p->in_c, p->in_c / 4u, scratch);
            in += 4u * p->in_c;
        } else {
            columns_of(&w, m.depth4, 4, scratch);
        }
        wl_matrix_four(&m, scratch, out);
    }
    for (; left > 0; left--, out += p->out_c) {
        if (plain) {
            wl_widen(in, p->in_c / 4u, scratch, 1);
            in += p->in_c;
        } else {
            columns_of(&w, m.depth4, 1, scratch);
        }
        wl_matrix_one(&m, scratch, out);
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
