/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random parameters, many of them unusable; those that are valid run on allocations of exactly the
 * size the header names, so that the sanitizers see every step too far.
 */
#include <stdio.h>
#include <stdlib.h>

#include "wl_nn.h"

static uint32_t state = 1;

static uint32_t below(uint32_t limit)
{
    state = state * 1664525u + 1013904223u;
    return (uint32_t)(((uint64_t)(state >> 1) * limit) >> 31);
}

static void *bytes(size_t count)
{
    int8_t *made = malloc(count ? count : 1);
    if (made == NULL)
        exit(2);
    for (size_t i = 0; i < count; i++)
        made[i] = (int8_t)below(256);
    return made;
}

static wl_requant_t *records(size_t count)
{
    wl_requant_t *made = bytes(count * sizeof *made);
    const int wild = below(2) != 0;
    for (size_t i = 0; i < count; i++) {
        made[i].bias = (int32_t)below(2u * WL_NN_MAX_BIAS) - WL_NN_MAX_BIAS;
        made[i].multiplier = (int32_t)below(0x7fffffffu);
        made[i].shift = wild ? (int32_t)below(62) - 31 : -1 - (int32_t)below(22);
    }
    if (!wl_requant_valid(made, count))
        exit(3);
    return made;
}

static uint16_t small(uint32_t limit) { return (uint16_t)below(limit); }
static uint8_t tiny(uint32_t limit) { return (uint8_t)below(limit); }
static int8_t code(void) { return (int8_t)below(256); }

static unsigned convolution(void)
{
    wl_conv2d_t p = {small(9), small(9), small(10), small(9), small(9), small(9), tiny(5),
                     tiny(5),  tiny(4),  tiny(4),   tiny(4),  tiny(4),  code(),   code(),
                     -128,     127,      NULL,      NULL};
    if (below(3) == 0)
        p.act_min = code(), p.act_max = code();
    if (!wl_conv2d_valid(&p))
        return 0;
    int8_t *weights = bytes(wl_conv2d_weight_bytes(&p));
    wl_requant_t *requant = records(wl_conv2d_records(&p));
    int8_t *in = bytes((size_t)p.in_h * p.in_w * p.in_c);
    int8_t *out = bytes((size_t)p.out_h * p.out_w * p.out_c);
    void *scratch = bytes(wl_conv2d_scratch_bytes(&p));
    p.weights = weights;
    p.requant = requant;
    wl_conv2d(&p, in, out, scratch);
    free(weights), free(requant), free(in), free(out), free(scratch);
    return 1;
}

static unsigned depthwise(void)
{
    wl_depthwise_t p = {small(12), small(12), small(10), small(9), small(9), tiny(3), tiny(5),
                        tiny(5),   tiny(4),   tiny(4),   tiny(4),  tiny(4),  code(),  code(),
                        -128,      127,       NULL,      NULL};
    if (below(2) == 0)
        p.kernel_h = p.kernel_w = 3;
    if (!wl_depthwise_valid(&p))
        return 0;
    int16_t *weights = bytes(wl_depthwise_weight_bytes(&p));
    for (size_t i = 0; i < wl_depthwise_weight_bytes(&p) / 2; i++)
        weights[i] = (int16_t)(2 * code());
    wl_requant_t *requant = records(wl_depthwise_records(&p));
    int8_t *in = bytes((size_t)p.in_h * p.in_w * p.in_c);
    int8_t *out = bytes((size_t)p.out_h * p.out_w * p.in_c * p.multiplier);
    void *scratch = bytes(wl_depthwise_scratch_bytes(&p));
    p.weights = weights;
    p.requant = requant;
    wl_depthwise(&p, in, out, scratch);
    free(weights), free(requant), free(in), free(out), free(scratch);
    return 1;
}

static unsigned dense(void)
{
    wl_dense_t p = {small(70), small(20), code(), -128, 127, NULL, NULL};
    if (!wl_dense_valid(&p))
        return 0;
    int8_t *weights = bytes(wl_dense_weight_bytes(&p));
    wl_requant_t *requant = records(wl_dense_records(&p));
    int8_t *in = bytes(p.inputs), *out = bytes(p.outputs);
    void *scratch = bytes(wl_dense_scratch_bytes(&p));
    p.weights = weights;
    p.requant = requant;
    wl_dense(&p, in, out, scratch);
    free(weights), free(requant), free(in), free(out), free(scratch);
    return 1;
}

static unsigned pools(void)
{
    const wl_pool_t p = {small(9), small(9), small(10), small(9), small(9), tiny(5), tiny(5),
                         tiny(4),  tiny(4),  tiny(4),   tiny(4),  code(),   code()};
    if (!wl_pool_valid(&p))
        return 0;
    int8_t *in = bytes((size_t)p.in_h * p.in_w * p.in_c);
    int8_t *out = bytes((size_t)p.out_h * p.out_w * p.in_c);
    wl_max_pool(&p, in, out);
    wl_average_pool(&p, in, out);
    free(in), free(out);
    return 1;
}

static unsigned others(void)
{
    wl_requant_t *requant = records(3);
    wl_add_t add = {below(50), -128, 127, requant};
    unsigned ran = 0;
    for (size_t i = 0; i < 3; i++)
        requant[i].bias = code();
    if (wl_add_valid(&add)) {
        int8_t *a = bytes(add.count), *b = bytes(add.count), *out = bytes(add.count);
        wl_add(&add, a, b, out);
        free(a), free(b), free(out);
        ran++;
    }
    free(requant);
    const wl_pad_t pad = {small(6), small(6), small(6), small(9), small(9),
                          small(9), small(4), small(4), small(4), code()};
    if (wl_pad_valid(&pad)) {
        int8_t *in = bytes((size_t)pad.in_h * pad.in_w * pad.in_c);
        int8_t *out = bytes((size_t)pad.out_h * pad.out_w * pad.out_c);
        wl_pad(&pad, in, out);
        free(in), free(out);
        ran++;
    }
    requant = records(1);
    const wl_mean_t mean = {below(50), small(20), code(), -128, 127, requant};
    if (wl_mean_valid(&mean)) {
        int8_t *in = bytes((size_t)mean.pixels * mean.channels), *out = bytes(mean.channels);
        wl_mean(&mean, in, out);
        free(in), free(out);
        ran++;
    }
    free(requant);
    return ran;
}

int main(int argc, char **argv)
{
    const long rounds = argc > 1 ? atol(argv[1]) : 0;
    unsigned ran = 0;
    for (long i = 0; i < rounds; i++)
        ran += convolution() + depthwise() + dense() + pools() + others();
    printf("%u operators\n", ran);
    return 0;
}
