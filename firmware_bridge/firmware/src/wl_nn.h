/* SPDX-License-Identifier: Apache-2.0 */
/*
 * int8 operators of a neural network, bit for bit those of tflite-micro.
 *
 * C99, freestanding: no allocation, no library function, no floating point, no static data that is
 * written. Tensors are int8, NHWC, batch 1; in and out must not overlap. They may lie at any
 * address; weights, records and scratch at multiples of 4 (8 saves cycles on some cores).
 * waistline/blob/pack.py makes the weights and records of this layout.
 *
 * Arithmetic: acc = bias + sum of x * w in 32 bits, where the input's zero point is folded into the
 * bias, bias - in_zero * sum of w, so that a padded element is in_zero. Then for a multiplier m and
 * a shift s (TFLite's: the factor is m / 2^31 * 2^s)
 *     h = (acc * 2^max(s, 0) * m + 2^30) >> 31            rounded half up
 *     y = h / 2^max(-s, 0)                                to nearest, ties away from zero
 *     out = min(max(y + out_zero, act_min), act_max)
 * The two roundings are tflite-micro's. h equals its truncated division for every m >= 0.
 *
 * Every operator has a *_valid function: 1 if the parameters describe what the operator can carry
 * out and it will then read and write nothing but: in_h * in_w * in_c bytes of `in`,
 * out_h * out_w * out_c of `out`, *_weight_bytes of `weights`, *_records of `requant` and
 * *_scratch_bytes of `scratch`. Call it once for parameters from outside. Values of weights and
 * records are not looked at: wrong ones give wrong numbers, but wl_requant_valid tells.
 */
#ifndef WL_NN_H
#define WL_NN_H

#include <stddef.h>
#include <stdint.h>

/* Changes with the layout of weights, records or parameters. */
#define WL_NN_VERSION 1u

/* Most products in one sum; |bias| is at most WL_NN_MAX_BIAS, so that |acc| < 2^30. */
#define WL_NN_MAX_DEPTH 32768u
#define WL_NN_MAX_BIAS ((1 << 29) - 1)

/* Highest kernel of a depthwise convolution. */
#define WL_NN_MAX_ROWS 32u

/* One output channel. 0 <= multiplier, -31 <= shift <= 30. */
typedef struct {
    int32_t bias;
    int32_t multiplier;
    int32_t shift;
} wl_requant_t;

/* 1 if all `count` records are within their ranges. */
int wl_requant_valid(const wl_requant_t *records, size_t count);

/*
 * Convolution, dense, any stride; rows and columns beyond the input are in_zero. A 1 x 1 kernel
 * (pointwise) needs no function of its own.
 *
 * weights: K = kernel_h * kernel_w * in_c products per output in the order (row, column, channel),
 * K4 = K rounded up to 4. For each pair of output channels (a, b), for each four k:
 *     a[k] b[k] a[k+2] b[k+2] a[k+1] b[k+1] a[k+3] b[k+3]
 * k beyond K and the missing b of an odd out_c are 0. So is the record of that b.
 */
typedef struct {
    uint16_t in_h, in_w, in_c;
    uint16_t out_h, out_w, out_c;
    uint8_t kernel_h, kernel_w;
    uint8_t stride_h, stride_w;
    uint8_t pad_top, pad_left; /* rows and columns before the first; those after follow */
    int8_t in_zero, out_zero;
    int8_t act_min, act_max;
    const int8_t *weights;
    const wl_requant_t *requant; /* out_c rounded up to 2 */
} wl_conv2d_t;

int wl_conv2d_valid(const wl_conv2d_t *p);
size_t wl_conv2d_weight_bytes(const wl_conv2d_t *p);
size_t wl_conv2d_records(const wl_conv2d_t *p);
/* 8 bytes for each product of a sum: four pixels, widened. 9, and 4 more, if in_c is not a
 * multiple of 4. */
size_t wl_conv2d_scratch_bytes(const wl_conv2d_t *p);
void wl_conv2d(const wl_conv2d_t *p, const int8_t *in, int8_t *out, void *scratch);

/*
 * Depthwise convolution: output channel c * multiplier + j sees input channel c alone.
 *
 * weights: int16, twice the weight, for each output channel, for each row of the kernel:
 *     kernel_w = 3:  w0 w1 w2 w1
 *     else:          w0 w1 .. , and a 0 if their number is odd
 */
typedef struct {
    uint16_t in_h, in_w, in_c;
    uint16_t out_h, out_w;
    uint8_t multiplier; /* output channels of an input channel */
    uint8_t kernel_h, kernel_w;
    uint8_t stride_h, stride_w;
    uint8_t pad_top, pad_left;
    int8_t in_zero, out_zero;
    int8_t act_min, act_max;
    const int16_t *weights;
    const wl_requant_t *requant; /* in_c * multiplier */
} wl_depthwise_t;

int wl_depthwise_valid(const wl_depthwise_t *p);
size_t wl_depthwise_weight_bytes(const wl_depthwise_t *p);
size_t wl_depthwise_records(const wl_depthwise_t *p);
/* kernel_h rows of four channels, padded and widened: 8 * kernel_h * (about in_w + kernel_w). */
size_t wl_depthwise_scratch_bytes(const wl_depthwise_t *p);
void wl_depthwise(const wl_depthwise_t *p, const int8_t *in, int8_t *out, void *scratch);

/* Fully connected. weights and requant as of a 1 x 1 convolution of one pixel of `inputs`. */
typedef struct {
    uint16_t inputs, outputs;
    int8_t out_zero;
    int8_t act_min, act_max;
    const int8_t *weights;
    const wl_requant_t *requant; /* outputs rounded up to 2 */
} wl_dense_t;

int wl_dense_valid(const wl_dense_t *p);
size_t wl_dense_weight_bytes(const wl_dense_t *p);
size_t wl_dense_records(const wl_dense_t *p);
size_t wl_dense_scratch_bytes(const wl_dense_t *p); /* inputs rounded up to 4, twice */
void wl_dense(const wl_dense_t *p, const int8_t *in, int8_t *out, void *scratch);

/*
 * Pooling; what lies beyond the input does not count. The window of every output must hold at
 * least one element. in and out have one scale and zero point. Average: the sum over the number of
 * elements, to nearest, ties away from zero.
 */
typedef struct {
    uint16_t in_h, in_w, in_c;
    uint16_t out_h, out_w;
    uint8_t kernel_h, kernel_w;
    uint8_t stride_h, stride_w;
    uint8_t pad_top, pad_left;
    int8_t act_min, act_max;
} wl_pool_t;

int wl_pool_valid(const wl_pool_t *p);
void wl_max_pool(const wl_pool_t *p, const int8_t *in, int8_t *out);
void wl_average_pool(const wl_pool_t *p, const int8_t *in, int8_t *out);

/*
 * MEAN over rows and columns, scaled: acc = bias + sum, with bias = -in_zero * pixels and the
 * 1 / pixels in the multiplier (tflite-micro: m << k, divided by pixels, shift - k, where k is
 * the number of bits of pixels, less one, and at most 31 + shift).
 */
typedef struct {
    uint32_t pixels; /* rows * columns, at most 2^22 */
    uint16_t channels;
    int8_t out_zero;
    int8_t act_min, act_max;
    const wl_requant_t *requant; /* one */
} wl_mean_t;

int wl_mean_valid(const wl_mean_t *p);
void wl_mean(const wl_mean_t *p, const int8_t *in, int8_t *out);

/*
 * Addition. Each input: (x - zero) * 2^20, scaled; their sum, scaled, + out_zero, clamped. In the
 * records bias is the zero point of the input or output, shift is at most 0; all multipliers are
 * as TFLite makes them: with 2 * the larger input scale in common.
 */
typedef struct {
    uint32_t count;
    int8_t act_min, act_max;
    const wl_requant_t *requant; /* three: first input, second input, output */
} wl_add_t;

int wl_add_valid(const wl_add_t *p); /* looks at the records, too */
void wl_add(const wl_add_t *p, const int8_t *first, const int8_t *second, int8_t *out);

/* Concatenation along channels: one call for each input puts it at `offset` of each pixel. */
typedef struct {
    uint32_t pixels;
    uint16_t in_c, out_c, offset;
} wl_concat_t;

int wl_concat_valid(const wl_concat_t *p);
void wl_concat(const wl_concat_t *p, const int8_t *in, int8_t *out);

/* Padding with `value` of rows, columns and channels, before; those after follow. */
typedef struct {
    uint16_t in_h, in_w, in_c;
    uint16_t out_h, out_w, out_c;
    uint16_t top, left, front;
    int8_t value;
} wl_pad_t;

int wl_pad_valid(const wl_pad_t *p);
void wl_pad(const wl_pad_t *p, const int8_t *in, int8_t *out);

/* out = table[in + 128]: a relu, a change of scale, any function of one code. */
void wl_lookup(const int8_t *table, size_t count, const int8_t *in, int8_t *out);

#endif
