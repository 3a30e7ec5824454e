/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The waist codec's arithmetic: ranges, quantizers, bit packing, the context coder.
 *
 * C99, freestanding: no allocation, no I/O, no library function, no static data that is written,
 * about 4 kB of stack. The same files go into the Python package and into firmware, there with
 * WAIST_SMALL: less program, slower, 0.7 kB of stack.
 * Compile with -ffp-contract=off (a fused multiply-add changes codes) and never with -ffast-math.
 *
 * Every buffer belongs to the caller, is not kept after the call, and must not overlap another.
 * Floats are IEEE binary32, rounded to nearest after every operation in the order written here;
 * waistline/codec/quantizers.py is the same text in Python and gives the same bits.
 *
 * A tensor is (outer, channels, inner) in C order: element (o, c, i) lies at
 * ((o * channels) + c) * inner + i. One range per channel; a range for the whole tensor is
 * (1, 1, n). Sizes are at least 1. The number of elements must fit size_t.
 *
 * Codes are `bits` wide, 1..8, unsigned, in an LSB-first stream: code k fills the bits
 * k*bits .. k*bits + bits - 1, bit i of the stream is bit i % 8 of byte i / 8. The last byte of a
 * tensor is padded with zeros. A signed code d is stored as d + 2^(bits-1).
 */
#ifndef WAIST_H
#define WAIST_H

#include <stddef.h>
#include <stdint.h>

#define WAIST_VERSION 4u

#ifdef __cplusplus
extern "C" {
#endif

enum waist_status {
    WAIST_OK = 0,
    WAIST_NONFINITE = 1, /* NaN or infinity in what was to be quantized */
    WAIST_BAD_RANGE = 2, /* a limit is not finite, or lo > hi */
    WAIST_BAD_BITS = 3,  /* bits outside 1..8 */
    WAIST_TOO_LONG = 4,  /* the coded stream does not fit its buffer */
    WAIST_CORRUPT = 5    /* not a coded stream of these codes */
};

enum waist_rule {
    WAIST_AFFINE = 0, /* nearest of 2^bits levels from lo to hi, ties up, clipped */
    WAIST_Q1 = 1,     /* floor to 2^bits steps, clamped; decodes to the lower end of the step */
    WAIST_Q1H = 2     /* codes of WAIST_Q1, decodes to the middle of the step */
};

typedef struct {
    size_t outer, channels, inner;
} waist_shape;

/*
 * Arithmetic of the channels, made by waist_map_init. The arrays lie in the caller's storage,
 * which must live as long as the map.
 */
typedef struct {
    size_t channels;
    uint32_t bits;
    uint32_t scaled; /* whether some pre is not 1 */
    float rounding;  /* 0.5 for affine, 0 for q1 and q1h */
    float top;       /* 2^bits - 0.5 */
    const float *pre, *base, *gain;              /* encode: [channels] */
    const float *origin, *step, *post, *ceiling; /* decode: [channels] */
} waist_map;

/* Floats of storage that a map needs for each channel. */
#define WAIST_MAP_FLOATS 7u

/* WAIST_VERSION of the compiled code; it changes with any prototype, struct or code. */
uint32_t waist_version(void);

/* Bytes of `count` packed codes: ceil(count * bits / 8). */
size_t waist_packed_size(size_t count, uint32_t bits);

/* Pack `count` codes, one a byte, each below 2^bits, into waist_packed_size bytes. */
int waist_pack(const uint8_t *codes, size_t count, uint32_t bits, uint8_t *packed);

/* The reverse: `count` codes, one a byte. Padding bits are not looked at. */
int waist_unpack(const uint8_t *packed, size_t count, uint32_t bits, uint8_t *codes);

/*
 * Minimum and maximum of every channel into lo[channels], hi[channels]; -0 becomes +0.
 * WAIST_NONFINITE for NaN or infinity anywhere, lo and hi are then meaningless.
 */
int waist_minmax(const float *x, waist_shape shape, float *lo, float *hi);

/*
 * Prepare `map` from lo[channels] <= hi[channels], all finite; storage[WAIST_MAP_FLOATS*channels].
 * With n = 2^bits - 1 (affine) or 2^bits (q1, q1h), for each channel (-0 counts as +0):
 *
 *   lo == hi: pre = post = 1, base = lo, gain = step = 0 (encodes 0, decodes lo); else
 *   half = 0.5*hi - 0.5*lo
 *   pre  = 2^-8 if half > 2^120, 2^60 if half < 2^-64, else 1;    post = 1/pre
 *   base = lo*pre;  span = hi*pre - base;  gain = n/span;  step = span/n
 *   origin = base, for q1h base + 0.5*step;  ceiling = hi
 */
int waist_map_init(waist_map *map, int rule, uint32_t bits, size_t channels, const float *lo,
                   const float *hi, float *storage);

/*
 * Quantize and pack all of x into waist_packed_size bytes. map->channels == shape.channels.
 *
 *   t = (x*pre - base)*gain + rounding;  t = t > 0 ? t : 0;  t = t < top ? t : top;  code = (int)t
 *
 * Values outside the range clip. WAIST_NONFINITE for NaN or infinity anywhere, packed is then
 * meaningless. within != 0 is the caller's promise that x is finite and lies within its ranges, as
 * after waist_minmax: neither is then looked at, which makes affine about a third faster.
 */
int waist_encode(const float *x, waist_shape shape, const waist_map *map, int within,
                 uint8_t *packed);

/*
 * Unpack and dequantize into x; any packed bytes are safe.
 *
 *   v = (origin + code*step)*post;  x = v < ceiling ? v : ceiling
 */
void waist_decode(const uint8_t *packed, waist_shape shape, const waist_map *map, float *x);

/* How one tensor is coded in every frame. */
typedef struct {
    waist_shape shape;
    int rule;
    uint32_t bits;
    const waist_map *fixed; /* of limits found before; NULL: each frame carries its own ranges */
    float *scratch;         /* [WAIST_FRAME_FLOATS*channels]; may be NULL with fixed */
} waist_frame;

#define WAIST_FRAME_FLOATS (WAIST_MAP_FLOATS + 2u)

/*
 * waist_minmax, waist_map_init and waist_encode in one. Without fixed, ranges receives lo of every
 * channel, then hi: 8*channels bytes, little-endian, of any alignment.
 */
int waist_encode_frame(const waist_frame *frame, const float *x, uint8_t *ranges, uint8_t *packed);

/* The reverse. WAIST_BAD_RANGE as in waist_map_init; any packed bytes are safe. */
int waist_decode_frame(const waist_frame *frame, const uint8_t *ranges, const uint8_t *packed,
                       float *x);

/*
 * Sum in the pinned order: blocks of 1024 values; in a block, value k adds to lane k % 16, the
 * lanes are folded by halves (8, 4, 2, 1); the blocks' totals are summed in 16 lanes likewise, as
 * one block without end. May overflow.
 */
float waist_sum(const float *x, size_t count);

/*
 * One bit a value: 1 where x >= mean. values[0], values[1] are what 0 and 1 decode to: mean - max
 * and mean (q2), or with conditional != 0 the means of the values below, and not below (q2m).
 * mean = waist_sum / count, kept within [min, max]; a sum that overflows is repeated with every
 * value times 2^-32. A constant tensor gives code 0 throughout and both values equal to it.
 * WAIST_NONFINITE as in waist_minmax.
 */
int waist_q2_encode(const float *x, size_t count, int conditional, float values[2],
                    uint8_t *packed);

/* x = values[bit]. */
void waist_q2_decode(const uint8_t *packed, size_t count, const float values[2], float *x);

/*
 * 8-bit tensors without any float: pack table[q]. q is the element's byte (int8: its two's
 * complement), table[256] holds codes below 2^bits and is built on the host.
 */
int waist_table_encode(const uint8_t *q, size_t count, const uint8_t *table, uint32_t bits,
                       uint8_t *packed);

/* q = table[code], table[2^bits]. */
int waist_table_decode(const uint8_t *packed, size_t count, const uint8_t *table, uint32_t bits,
                       uint8_t *q);

/* What is known of one decision. */
typedef uint32_t waist_ctx_node;

/*
 * Codes as planes of rows of columns, for the coder below, which goes plane by plane, row by row.
 * Code (plane, row, column) is number (plane * rows + row) * columns + column, or, interleaved != 0
 * (channels last), (row * columns + column) * planes + plane. Vectors are one plane of one row.
 *
 * Working memory is the caller's; nothing in it is kept between calls.
 */
typedef struct {
    size_t planes, rows, columns;
    int interleaved;
    uint32_t bits;
    waist_ctx_node *nodes; /* [waist_ctx_nodes(bits)] */
    uint8_t *above;        /* [columns] */
} waist_ctx;

/*
 * Nodes of 4 bytes for codes of `bits` bits; 0 if bits is outside 1..8. For 1 to 8 bits they take
 * 320, 1088, 1984, 4032, 3136, 4160, 6208 and 10304 bytes.
 */
size_t waist_ctx_nodes(uint32_t bits);

/*
 * Entropy code values[planes * rows * columns], a byte each, into at most `capacity` bytes; *size
 * says how many. The code of a value is table[value], as in waist_table_encode, or, without a
 * table, the value; each must be below 2^bits. WAIST_TOO_LONG if they do not fit, out is then
 * meaningless. *size may be 0.
 */
int waist_ctx_encode(const waist_ctx *ctx, const uint8_t *values, const uint8_t *table,
                     uint8_t *out, size_t capacity, size_t *size);

/*
 * The reverse, into codes[planes * rows * columns], a byte each. Any data is safe. WAIST_CORRUPT
 * unless data is exactly, to its last byte, what waist_ctx_encode makes of the codes decoded; codes
 * are then meaningless.
 */
int waist_ctx_decode(const waist_ctx *ctx, const uint8_t *data, size_t size, uint8_t *codes);

#ifdef __cplusplus
}
#endif
#endif
