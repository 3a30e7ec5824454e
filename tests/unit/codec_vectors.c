/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs core/c over the golden vectors. test_c_codec.py compiles it with the sanitizers and turns
 * tests/vectors/codec.json into the records read here (32-bit little-endian words, then bytes):
 *   kind bits is_static outer channels inner n_ranges, input, ranges, packed, decoded[, tables]
 * Every buffer is a heap block of the exact size, so that one byte too far is caught.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "waist.h"

enum { AFFINE, Q1, Q1H, Q2, Q2M, TABLE };

static FILE *vectors;
static int failures;

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("record %d, line %d: %s\n", record, __LINE__, #condition);                      \
            failures++;                                                                            \
        }                                                                                          \
    } while (0)

static void *bytes(size_t size)
{
    void *block = malloc(size);
    if (!block || fread(block, 1, size, vectors) != size) {
        puts("the vector file is too short");
        exit(2);
    }
    return block;
}

/* The calls of one frame give what the separate ones gave, at any alignment of the ranges. */
static void frame(int record, const waist_frame *frame, const float *x, const float *ranges,
                  const uint8_t *expected, const float *decoded)
{
    const size_t channels = frame->shape.channels;
    const size_t count = frame->shape.outer * channels * frame->shape.inner;
    const size_t size = waist_packed_size(count, frame->bits);
    const float nan = strtof("nan", NULL);
    uint8_t *wire = malloc(8 * channels + 1), *packed = malloc(size);
    float *y = malloc(4 * count);

    EXPECT(waist_encode_frame(frame, x, wire + 1, packed) == WAIST_OK);
    EXPECT(!memcmp(packed, expected, size));
    if (frame->fixed)
        memset(wire, 0xff, 8 * channels + 1); /* not looked at */
    else
        EXPECT(!memcmp(wire + 1, ranges, 8 * channels));
    EXPECT(waist_decode_frame(frame, wire + 1, packed, y) == WAIST_OK);
    EXPECT(!memcmp(y, decoded, 4 * count));
    if (!frame->fixed) {
        memcpy(wire + 1, &nan, 4);
        EXPECT(waist_decode_frame(frame, wire + 1, packed, y) == WAIST_BAD_RANGE);
    }
    memcpy(y, x, 4 * count);
    y[count - 1] = nan;
    EXPECT(waist_encode_frame(frame, y, wire + 1, packed) == WAIST_NONFINITE);
    free(wire), free(packed), free(y);
}

static void floats(int record, const uint32_t *head, waist_shape shape, size_t count)
{
    const uint32_t kind = head[0], bits = head[1], is_static = head[2];
    const size_t size = waist_packed_size(count, bits), channels = shape.channels;
    float *x = bytes(4 * count), *ranges = bytes(4 * head[6]);
    uint8_t *expected = bytes(size), *packed = malloc(size);
    float *decoded = bytes(4 * count), *y = malloc(4 * count);
    float *lo = malloc(4 * channels), *hi = malloc(4 * channels);
    float *storage = malloc(4 * channels * WAIST_MAP_FLOATS);
    const float nan = strtof("nan", NULL), infinity = strtof("inf", NULL);
    waist_map map;

    if (kind >= Q2) {
        float values[2];
        EXPECT(waist_q2_encode(x, count, kind == Q2M, values, packed) == WAIST_OK);
        EXPECT(!memcmp(values, ranges, sizeof values));
        waist_q2_decode(expected, count, ranges, y);
    } else {
        EXPECT(waist_minmax(x, shape, lo, hi) == WAIST_OK);
        if (is_static) {
            memcpy(lo, ranges, 4 * channels);
            memcpy(hi, ranges + channels, 4 * channels);
        }
        EXPECT(!memcmp(lo, ranges, 4 * channels));
        EXPECT(!memcmp(hi, ranges + channels, 4 * channels));
        EXPECT(waist_map_init(&map, (int)kind, bits, channels, lo, hi, storage) == WAIST_OK);
        if (!is_static) {
            EXPECT(waist_encode(x, shape, &map, 1, packed) == WAIST_OK);
            EXPECT(!memcmp(packed, expected, size));
        }
        memset(packed, 0xaa, size);
        EXPECT(waist_encode(x, shape, &map, 0, packed) == WAIST_OK);
        waist_decode(expected, shape, &map, y);
        float *scratch = malloc(4 * channels * WAIST_FRAME_FLOATS);
        waist_frame whole = {shape, (int)kind, bits, is_static ? &map : NULL, scratch};
        frame(record, &whole, x, ranges, expected, decoded);
        free(scratch);
    }
    EXPECT(!memcmp(packed, expected, size));
    EXPECT(!memcmp(y, decoded, 4 * count));

    for (size_t at = 0; at < count; at += count < 64 ? 1 : count / 7) {
        const float kept = x[at], bad[3] = {nan, infinity, -infinity};
        for (int k = 0; k < 3; k++) {
            float values[2];
            x[at] = bad[k];
            EXPECT(waist_minmax(x, shape, lo, hi) == WAIST_NONFINITE);
            if (kind >= Q2)
                EXPECT(waist_q2_encode(x, count, 1, values, packed) == WAIST_NONFINITE);
            else
                EXPECT(waist_encode(x, shape, &map, 0, packed) == WAIST_NONFINITE);
        }
        x[at] = kept;
    }
    if (kind < Q2) { /* whatever arrives stays within the range */
        for (size_t i = 0; i < size; i++)
            packed[i] = (uint8_t)(i * 167 + 13);
        waist_decode(packed, shape, &map, y);
        for (size_t i = 0; i < count; i++) {
            size_t c = i / shape.inner % channels;
            EXPECT(y[i] >= ranges[c] && y[i] <= ranges[channels + c]);
        }
        ranges[0] = nan;
        EXPECT(waist_map_init(&map, 0, bits, channels, ranges, ranges + channels, storage) ==
               WAIST_BAD_RANGE);
        ranges[0] = infinity;
        EXPECT(waist_map_init(&map, 0, bits, channels, ranges, ranges + channels, storage) ==
               WAIST_BAD_RANGE);
        EXPECT(waist_map_init(&map, 0, 9, channels, lo, hi, storage) == WAIST_BAD_BITS);
    }
    free(x), free(ranges), free(expected), free(packed), free(decoded), free(y);
    free(lo), free(hi), free(storage);
}

static void table(int record, uint32_t bits, size_t count)
{
    const size_t size = waist_packed_size(count, bits);
    uint8_t *q = bytes(count), *expected = bytes(size), *decoded = bytes(count);
    uint8_t *codes = bytes(256), *inverse = bytes((size_t)1 << bits);
    uint8_t *packed = malloc(size), *unpacked = malloc(count), *again = malloc(size);

    EXPECT(waist_table_encode(q, count, codes, bits, packed) == WAIST_OK);
    EXPECT(!memcmp(packed, expected, size));
    EXPECT(waist_unpack(expected, count, bits, unpacked) == WAIST_OK);
    for (size_t i = 0; i < count; i++)
        EXPECT(unpacked[i] == codes[q[i]]);
    EXPECT(waist_pack(unpacked, count, bits, again) == WAIST_OK);
    EXPECT(!memcmp(again, expected, size));
    EXPECT(waist_table_decode(expected, count, inverse, bits, unpacked) == WAIST_OK);
    EXPECT(!memcmp(unpacked, decoded, count));
    EXPECT(waist_pack(unpacked, count, 0, again) == WAIST_BAD_BITS);
    EXPECT(waist_unpack(expected, count, 9, unpacked) == WAIST_BAD_BITS);
    free(q), free(expected), free(decoded), free(codes), free(inverse);
    free(packed), free(unpacked), free(again);
}

int main(int argc, char **argv)
{
    uint32_t head[7];
    int record = 0;

    if (argc != 2 || !(vectors = fopen(argv[1], "rb")))
        return 2;
    for (; fread(head, sizeof head, 1, vectors) == 1; record++) {
        waist_shape shape = {head[3], head[4], head[5]};
        size_t count = shape.outer * shape.channels * shape.inner;
        if (head[0] == TABLE)
            table(record, head[1], count);
        else
            floats(record, head, shape, count);
    }
    fclose(vectors);
    printf("%d records, %d failures\n", record, failures);
    return failures != 0 || record == 0;
}
