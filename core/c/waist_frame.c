/* SPDX-License-Identifier: Apache-2.0 */
/* A whole tensor in one call, with its ranges as the wire carries them. */
#include "waist_internal.h"

typedef union {
    float value;
    uint32_t word;
} binary32;

static void store_floats(const float *from, size_t count, uint8_t *to)
{
    for (size_t i = 0; i < count; i++) {
        binary32 f = {from[i]};
        for (uint32_t byte = 0; byte < 4; byte++)
            *to++ = (uint8_t)(f.word >> 8 * byte);
    }
}

static void load_floats(const uint8_t *from, size_t count, float *to)
{
    for (size_t i = 0; i < count; i++) {
        binary32 f = {0};
        for (uint32_t byte = 0; byte < 4; byte++)
            f.word |= (uint32_t)*from++ << 8 * byte;
        to[i] = f.value;
    }
}

int waist_encode_frame(const waist_frame *frame, const float *x, uint8_t *ranges, uint8_t *packed)
{
    const size_t channels = frame->shape.channels;
    float *lo = frame->scratch, *hi = lo + channels;
    waist_map map;
    int status;

    if (frame->fixed)
        return waist_encode(x, frame->shape, frame->fixed, 0, packed);
    status = waist_minmax(x, frame->shape, lo, hi);
    if (status == WAIST_OK)
        status = waist_map_init(&map, frame->rule, frame->bits, channels, lo, hi, hi + channels);
    if (status != WAIST_OK)
        return status;
    store_floats(lo, 2 * channels, ranges);
    return waist_encode(x, frame->shape, &map, 1, packed);
}

int waist_decode_frame(const waist_frame *frame, const uint8_t *ranges, const uint8_t *packed,
                       float *x)
{
    const size_t channels = frame->shape.channels;
    float *lo = frame->scratch, *hi = lo + channels;
    const waist_map *map = frame->fixed;
    waist_map own;

    if (!map) {
        int status;
        load_floats(ranges, 2 * channels, lo);
        status =
            waist_map_init(&own, frame->rule, frame->bits, channels, lo, hi, hi + channels);
        if (status != WAIST_OK)
            return status;
        map = &own;
    }
    waist_decode(packed, frame->shape, map, x);
    return WAIST_OK;
}
