/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the codec's own files; not for callers. */
#ifndef WAIST_INTERNAL_H
#define WAIST_INTERNAL_H

#include <float.h>

#include "waist.h"

#if FLT_EVAL_METHOD != 0
#error "float arithmetic must not be wider than float (x87: use -msse2 -mfpmath=sse)"
#endif
#ifdef __FAST_MATH__
#error "-ffast-math changes codes and hides NaN"
#endif

/* Codes worked on at once, on the stack: a multiple of 64 (blocks are whole bytes) that
 * divides WAIST_SUM_BLOCK. */
#ifndef WAIST_BLOCK
#ifdef WAIST_SMALL
#define WAIST_BLOCK 64u
#else
#define WAIST_BLOCK 512u
#endif
#endif

#define WAIST_LANES 16u
#define WAIST_SUM_BLOCK 1024u

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define WAIST_LOW_BYTE 3
#define WAIST_LITTLE_ENDIAN 0
#else
#define WAIST_LOW_BYTE 0
#ifndef WAIST_LITTLE_ENDIAN /* 0 is right everywhere, only slower: tests compile it too */
#define WAIST_LITTLE_ENDIAN 1
#endif
#endif

typedef union {
    uint8_t codes[WAIST_BLOCK];
    uint64_t eights[WAIST_BLOCK / 8];
} waist_block;

/*
 * At most WAIST_BLOCK codes, bits already checked. Packing may change the block; unpacking writes
 * whole eights.
 */
void waist_pack_block(waist_block *block, size_t count, uint32_t bits, uint8_t *packed);
void waist_unpack_block(const uint8_t *packed, size_t count, uint32_t bits, waist_block *block);

/* Length of the block that begins at `at`. */
static inline size_t waist_here(size_t count, size_t at)
{
    return count - at < WAIST_BLOCK ? count - at : WAIST_BLOCK;
}

int waist_all_finite(const float *x, size_t count);

/* Exact for finite values; NaN for infinity and NaN. */
static inline int waist_is_finite(float x)
{
    return x - x == 0.0f;
}

#endif
