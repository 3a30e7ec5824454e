/* SPDX-License-Identifier: Apache-2.0 */
/* Bit packing. Widths 1, 2 and 4 halve the codes in passes that compilers turn into vector code;
 * the others merge eight codes in one 64-bit word. */
#include "waist_internal.h"

#define MASK(width) ((1ull << (width)) - 1u)

size_t waist_packed_size(size_t count, uint32_t bits)
{
    /* In eights, so that count * bits cannot overflow. */
    return count / 8u * bits + (count % 8u * bits + 7u) / 8u;
}

/* Two neighbours become one: pairs of `width` bits in the low bits of a byte. */
static void halve(const uint8_t *restrict from, size_t pairs, uint32_t width, uint8_t *restrict to)
{
    for (size_t i = 0; i < pairs; i++)
        to[i] = (uint8_t)(from[2 * i] | (from[2 * i + 1] << width));
}

static void split(const uint8_t *restrict from, size_t pairs, uint32_t width, uint8_t *restrict to)
{
    for (size_t i = 0; i < pairs; i++) {
        to[2 * i] = (uint8_t)(from[i] & ((1u << width) - 1u));
        to[2 * i + 1] = (uint8_t)(from[i] >> width);
    }
}

static void pack_eight(const uint8_t *codes, uint32_t bits, uint8_t *packed)
{
    uint64_t word = 0;
    for (uint32_t i = 0; i < 8; i++)
        word |= (uint64_t)codes[i] << (i * bits);
    for (uint32_t i = 0; i < bits; i++)
        packed[i] = (uint8_t)(word >> (8 * i));
}

static void unpack_eight(const uint8_t *packed, uint32_t bits, uint8_t *codes)
{
    uint64_t word = 0;
    for (uint32_t i = 0; i < bits; i++)
        word |= (uint64_t)packed[i] << (8 * i);
    for (uint32_t i = 0; i < 8; i++)
        codes[i] = (uint8_t)((word >> (i * bits)) & MASK(bits));
}

/* Constant widths unroll into shifts without loops. */
#define EIGHTS(function, in_step, out_step)                                                        \
    switch (bits) {                                                                                \
    case 3: for (size_t i = 0; i < eights; i++) function(from + i * (in_step), 3, to + i * (out_step)); break; \
    case 5: for (size_t i = 0; i < eights; i++) function(from + i * (in_step), 5, to + i * (out_step)); break; \
    case 6: for (size_t i = 0; i < eights; i++) function(from + i * (in_step), 6, to + i * (out_step)); break; \
    default: for (size_t i = 0; i < eights; i++) function(from + i * (in_step), 7, to + i * (out_step)); break; \
    }

static void pack_eights(const uint8_t *restrict from, size_t eights, uint32_t bits,
                        uint8_t *restrict to)
{
    EIGHTS(pack_eight, 8, bits)
}

static void unpack_eights(const uint8_t *restrict from, size_t eights, uint32_t bits,
                          uint8_t *restrict to)
{
    EIGHTS(unpack_eight, bits, 8)
}

void waist_pack_block(const uint8_t *codes, size_t count, uint32_t bits, uint8_t *packed)
{
    uint8_t pairs[WAIST_BLOCK / 2], fours[WAIST_BLOCK / 4];
    size_t eights = count / 8, rest = count % 8;

    switch (bits) {
    case 4:
        halve(codes, eights * 4, 4, packed);
        break;
    case 2:
        halve(codes, eights * 4, 2, pairs);
        halve(pairs, eights * 2, 4, packed);
        break;
    case 1:
        halve(codes, eights * 4, 1, pairs);
        halve(pairs, eights * 2, 2, fours);
        halve(fours, eights, 4, packed);
        break;
    case 8:
        for (size_t i = 0; i < count; i++)
            packed[i] = codes[i];
        return;
    default:
        pack_eights(codes, eights, bits, packed);
    }
    if (rest) {
        uint8_t last[8] = {0}, bytes[8];
        for (size_t i = 0; i < rest; i++)
            last[i] = codes[eights * 8 + i];
        pack_eight(last, bits, bytes);
        for (size_t i = 0; i < (rest * bits + 7) / 8; i++)
            packed[eights * bits + i] = bytes[i];
    }
}

void waist_unpack_block(const uint8_t *packed, size_t count, uint32_t bits, uint8_t *codes)
{
    uint8_t pairs[WAIST_BLOCK / 2], fours[WAIST_BLOCK / 4];
    size_t eights = count / 8, rest = count % 8;

    switch (bits) {
    case 4:
        split(packed, eights * 4, 4, codes);
        break;
    case 2:
        split(packed, eights * 2, 4, pairs);
        split(pairs, eights * 4, 2, codes);
        break;
    case 1:
        split(packed, eights, 4, fours);
        split(fours, eights * 2, 2, pairs);
        split(pairs, eights * 4, 1, codes);
        break;
    case 8:
        for (size_t i = 0; i < count; i++)
            codes[i] = packed[i];
        return;
    default:
        unpack_eights(packed, eights, bits, codes);
    }
    if (rest) {
        uint8_t bytes[8] = {0}, last[8];
        for (size_t i = 0; i < (rest * bits + 7) / 8; i++)
            bytes[i] = packed[eights * bits + i];
        unpack_eight(bytes, bits, last);
        for (size_t i = 0; i < rest; i++)
            codes[eights * 8 + i] = last[i];
    }
}

int waist_pack(const uint8_t *codes, size_t count, uint32_t bits, uint8_t *packed)
{
    if (bits < 1 || bits > 8)
        return WAIST_BAD_BITS;
    for (size_t at = 0; at < count; at += WAIST_BLOCK) {
        size_t some = count - at < WAIST_BLOCK ? count - at : WAIST_BLOCK;
        waist_pack_block(codes + at, some, bits, packed);
        packed += waist_packed_size(some, bits);
    }
    return WAIST_OK;
}

int waist_unpack(const uint8_t *packed, size_t count, uint32_t bits, uint8_t *codes)
{
    if (bits < 1 || bits > 8)
        return WAIST_BAD_BITS;
    for (size_t at = 0; at < count; at += WAIST_BLOCK) {
        size_t some = count - at < WAIST_BLOCK ? count - at : WAIST_BLOCK;
        waist_unpack_block(packed, some, bits, codes + at);
        packed += waist_packed_size(some, bits);
    }
    return WAIST_OK;
}

int waist_table_encode(const uint8_t *q, size_t count, const uint8_t *table, uint32_t bits,
                       uint8_t *packed)
{
    uint8_t codes[WAIST_BLOCK];

    if (bits < 1 || bits > 8)
        return WAIST_BAD_BITS;
    for (size_t at = 0; at < count; at += WAIST_BLOCK) {
        size_t some = count - at < WAIST_BLOCK ? count - at : WAIST_BLOCK;
        for (size_t i = 0; i < some; i++)
            codes[i] = table[q[at + i]];
        waist_pack_block(codes, some, bits, packed);
        packed += waist_packed_size(some, bits);
    }
    return WAIST_OK;
}

int waist_table_decode(const uint8_t *packed, size_t count, const uint8_t *table, uint32_t bits,
                       uint8_t *q)
{
    uint8_t codes[WAIST_BLOCK];

    if (bits < 1 || bits > 8)
        return WAIST_BAD_BITS;
    for (size_t at = 0; at < count; at += WAIST_BLOCK) {
        size_t some = count - at < WAIST_BLOCK ? count - at : WAIST_BLOCK;
        waist_unpack_block(packed, some, bits, codes);
        for (size_t i = 0; i < some; i++)
            q[at + i] = table[codes[i]];
        packed += waist_packed_size(some, bits);
    }
    return WAIST_OK;
}
