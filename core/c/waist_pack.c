/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bit packing. Widths 1, 2 and 4 halve the codes in passes; the others move the eight codes of a
 * 64-bit word together. Both are loops that compilers turn into vector code. WAIST_SMALL has a
 * loop over the codes instead, an eighth of the program.
 */
#include "waist_internal.h"

size_t waist_packed_size(size_t count, uint32_t bits)
{
    /* In eights, so that count * bits cannot overflow. */
    return count / 8u * bits + (count % 8u * bits + 7u) / 8u;
}

#ifdef WAIST_SMALL

void waist_pack_block(waist_block *block, size_t count, uint32_t bits, uint8_t *packed)
{
    uint32_t word = 0, held = 0;

    for (size_t i = 0; i < count; i++) {
        word |= (uint32_t)block->codes[i] << held;
        for (held += bits; held >= 8; held -= 8, word >>= 8)
            *packed++ = (uint8_t)word;
    }
    if (held)
        *packed = (uint8_t)word;
}

void waist_unpack_block(const uint8_t *packed, size_t count, uint32_t bits, waist_block *block)
{
    uint32_t word = 0, held = 0;

    for (size_t i = 0; i < count; i++) {
        if (held < bits) {
            word |= (uint32_t)*packed++ << held;
            held += 8;
        }
        block->codes[i] = (uint8_t)(word & ((1u << bits) - 1u));
        word >>= bits;
        held -= bits;
    }
}

#else

/* Two neighbours of `width` bits become one byte. */
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

/* Eight codes, one a byte, to 8 * bits adjacent bits: pairs, fours, eights. */
static void squeeze(uint64_t *words, size_t eights, uint32_t bits)
{
    const uint64_t ones = 0x00ff00ff00ff00ffu, twos = 0x0000ffff0000ffffu, fours = 0xffffffffu;
    const uint32_t s1 = 8 - bits, s2 = 2 * s1, s4 = 4 * s1;

    for (size_t i = 0; i < eights; i++) {
        uint64_t w = words[i];
        w = (w & ones) | ((w & ~ones) >> s1);
        w = (w & twos) | ((w & ~twos) >> s2);
        words[i] = (w & fours) | ((w & ~fours) >> s4);
    }
}

/* The reverse; bits above 8 * bits do not matter. */
static void spread(uint64_t *words, size_t eights, uint32_t bits)
{
    const uint64_t one = (1ull << bits) - 1, two = (1ull << 2 * bits) - 1;
    const uint64_t fours = (1ull << 4 * bits) - 1, twos = two | two << 32;
    const uint64_t ones = (one | one << 16) | (one | one << 16) << 32;
    const uint32_t s1 = 8 - bits, s2 = 2 * s1, s4 = 4 * s1;

    for (size_t i = 0; i < eights; i++) {
        uint64_t w = words[i];
        w = (w & fours) | ((w & fours << 4 * bits) << s4);
        w = (w & twos) | ((w & twos << 2 * bits) << s2);
        words[i] = (w & ones) | ((w & ones << bits) << s1);
    }
}

static uint64_t load(const uint8_t *from, size_t bytes)
{
    uint64_t word = 0;
    for (size_t i = 0; i < bytes; i++)
        word |= (uint64_t)from[i] << 8 * i;
    return word;
}

static void store(uint64_t word, uint8_t *to, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        to[i] = (uint8_t)(word >> 8 * i);
}

/* Spelled out, so that compilers see one 64-bit access. */
static inline uint64_t load8(const uint8_t *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 |
           (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 |
           (uint64_t)p[7] << 56;
}

static inline void store8(uint64_t word, uint8_t *p)
{
    p[0] = (uint8_t)word;
    p[1] = (uint8_t)(word >> 8);
    p[2] = (uint8_t)(word >> 16);
    p[3] = (uint8_t)(word >> 24);
    p[4] = (uint8_t)(word >> 32);
    p[5] = (uint8_t)(word >> 40);
    p[6] = (uint8_t)(word >> 48);
    p[7] = (uint8_t)(word >> 56);
}

/* Eight bytes are moved for `bits` that count, while that stays inside the buffer. */
static void pack_eights(waist_block *block, size_t eights, uint32_t bits, uint8_t *restrict packed)
{
    size_t i = 0;

    for (size_t k = 0; !WAIST_LITTLE_ENDIAN && k < eights; k++)
        block->eights[k] = load8(block->codes + 8 * k);
    squeeze(block->eights, eights, bits);
    for (; (eights - i) * bits >= 8; i++)
        store8(block->eights[i], packed + i * bits);
    for (; i < eights; i++)
        store(block->eights[i], packed + i * bits, bits);
}

static void unpack_eights(const uint8_t *restrict packed, size_t eights, uint32_t bits,
                          waist_block *block)
{
    size_t i = 0;

    for (; (eights - i) * bits >= 8; i++)
        block->eights[i] = load8(packed + i * bits);
    for (; i < eights; i++)
        block->eights[i] = load(packed + i * bits, bits);
    spread(block->eights, eights, bits);
    for (size_t k = 0; !WAIST_LITTLE_ENDIAN && k < eights; k++)
        store8(block->eights[k], block->codes + 8 * k);
}

void waist_pack_block(waist_block *block, size_t count, uint32_t bits, uint8_t *packed)
{
    uint8_t pairs[WAIST_BLOCK / 2], fours[WAIST_BLOCK / 4];
    const uint8_t *codes = block->codes;
    const size_t eights = count / 8, rest = count % 8;
    /* Before packing, which may change the block. */
    uint64_t last = load(codes + 8 * eights, rest);

    switch (bits) {
    case 1:
        halve(codes, eights * 4, 1, pairs);
        halve(pairs, eights * 2, 2, fours);
        halve(fours, eights, 4, packed);
        break;
    case 2:
        halve(codes, eights * 4, 2, pairs);
        halve(pairs, eights * 2, 4, packed);
        break;
    case 4:
        halve(codes, eights * 4, 4, packed);
        break;
    case 8:
        for (size_t i = 0; i < 8 * eights; i++)
            packed[i] = codes[i];
        break;
    default:
        pack_eights(block, eights, bits, packed);
    }
    if (rest) {
        squeeze(&last, 1, bits);
        store(last, packed + eights * bits, (rest * bits + 7) / 8);
    }
}

void waist_unpack_block(const uint8_t *packed, size_t count, uint32_t bits, waist_block *block)
{
    uint8_t pairs[WAIST_BLOCK / 2], fours[WAIST_BLOCK / 4];
    uint8_t *codes = block->codes;
    const size_t eights = count / 8, rest = count % 8;

    switch (bits) {
    case 1:
        split(packed, eights, 4, fours);
        split(fours, eights * 2, 2, pairs);
        split(pairs, eights * 4, 1, codes);
        break;
    case 2:
        split(packed, eights * 2, 4, pairs);
        split(pairs, eights * 4, 2, codes);
        break;
    case 4:
        split(packed, eights * 4, 4, codes);
        break;
    case 8:
        for (size_t i = 0; i < 8 * eights; i++)
            codes[i] = packed[i];
        break;
    default:
        unpack_eights(packed, eights, bits, block);
    }
    if (rest) {
        uint64_t last = load(packed + eights * bits, (rest * bits + 7) / 8);
        spread(&last, 1, bits);
        store8(last, codes + 8 * eights);
    }
}

#endif

int waist_pack(const uint8_t *codes, size_t count, uint32_t bits, uint8_t *packed)
{
    waist_block block;

    if (bits < 1 || bits > 8)
        return WAIST_BAD_BITS;
    for (size_t at = 0; at < count; at += WAIST_BLOCK) {
        size_t here = waist_here(count, at);
        for (size_t i = 0; i < here; i++)
            block.codes[i] = codes[at + i];
        waist_pack_block(&block, here, bits, packed);
        packed += waist_packed_size(here, bits);
    }
    return WAIST_OK;
}

int waist_unpack(const uint8_t *packed, size_t count, uint32_t bits, uint8_t *codes)
{
    waist_block block;

    if (bits < 1 || bits > 8)
        return WAIST_BAD_BITS;
    for (size_t at = 0; at < count; at += WAIST_BLOCK) {
        size_t here = waist_here(count, at);
        waist_unpack_block(packed, here, bits, &block);
        for (size_t i = 0; i < here; i++)
            codes[at + i] = block.codes[i];
        packed += waist_packed_size(here, bits);
    }
    return WAIST_OK;
}

int waist_table_encode(const uint8_t *q, size_t count, const uint8_t *table, uint32_t bits,
                       uint8_t *packed)
{
    waist_block block;

    if (bits < 1 || bits > 8)
        return WAIST_BAD_BITS;
    for (size_t at = 0; at < count; at += WAIST_BLOCK) {
        size_t here = waist_here(count, at);
        for (size_t i = 0; i < here; i++)
            block.codes[i] = table[q[at + i]];
        waist_pack_block(&block, here, bits, packed);
        packed += waist_packed_size(here, bits);
    }
    return WAIST_OK;
}

int waist_table_decode(const uint8_t *packed, size_t count, const uint8_t *table, uint32_t bits,
                       uint8_t *q)
{
    waist_block block;

    if (bits < 1 || bits > 8)
        return WAIST_BAD_BITS;
    for (size_t at = 0; at < count; at += WAIST_BLOCK) {
        size_t here = waist_here(count, at);
        waist_unpack_block(packed, here, bits, &block);
        for (size_t i = 0; i < here; i++)
            q[at + i] = table[block.codes[i]];
        packed += waist_packed_size(here, bits);
    }
    return WAIST_OK;
}
