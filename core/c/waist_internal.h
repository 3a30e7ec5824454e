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

/* Codes worked on at once, on the stack: a multiple of 8, so that blocks are whole bytes. */
#ifndef WAIST_BLOCK
#define WAIST_BLOCK 512u
#endif

#define WAIST_LANES 16u
#define WAIST_SUM_BLOCK 1024u

/* At most WAIST_BLOCK codes; bits already checked. */
void waist_pack_block(const uint8_t *codes, size_t count, uint32_t bits, uint8_t *packed);
void waist_unpack_block(const uint8_t *packed, size_t count, uint32_t bits, uint8_t *codes);

/* Exact for finite values; NaN for infinity and NaN. */
static inline int waist_is_finite(float x)
{
    return x - x == 0.0f;
}

#endif
