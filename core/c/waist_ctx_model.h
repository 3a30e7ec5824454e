/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both directions of the context coder share: nodes, contexts, neighbours. Not for callers.
 * docs/decisions/0006-ctx-coder.md says why it is so.
 */
#ifndef WAIST_CTX_MODEL_H
#define WAIST_CTX_MODEL_H

#include "waist_internal.h"

#define TOP (1u << 24) /* range stays at least this */
/* Nodes of no context, by prefix; the first is for all bits behind a code's first four. */
#define COMMON 16u
#define FIRST 4u /* bits of a code that have nodes in every context */
/* bits > FIRST: where the nodes of the bits behind begin. */
#define BIG_NODES (COMMON + 32u * 16u)

/* A node: below, the chance of a 1 in 2^-16; above, how many bits it saw, up to SETTLED. */
#define ONE_SEEN (1u << 16)
#define YOUNG (4u * ONE_SEEN)    /* nodes below this teach the common one */
#define SETTLED (60u * ONE_SEEN) /* nodes from this on adapt at their slowest: SLOWEST */
#define SLOWEST 1048u
#define UNKNOWN 32768u /* saw nothing: either bit is as likely */

#ifdef __GNUC__
#define RARELY(truth) __builtin_expect((truth) != 0, 0)
#else
#define RARELY(truth) (truth)
#endif

/* State of the arithmetic, out. low is that of the interval, modulo 2^32. */
typedef struct {
    uint32_t low, range;
    uint8_t *out;
    const uint8_t *begin, *end;
    int full;
    waist_ctx_node *nodes;
} waist_ctx_out;

/* What surrounds a code. */
typedef struct {
    uint32_t left, left2, up, up_left, up_right;
} around;

/* 2^16 / (seen + 2.5): a node follows the mean of what it saw, in the end of the last 60 or so. */
static inline uint32_t step_of(waist_ctx_node node)
{
#ifdef WAIST_SMALL
    return 131072u / (2u * (node >> 16) + 5u);
#else
    static const uint16_t steps[61] = {
        26214, 18724, 14563, 11915, 10082, 8738, 7710, 6898, 6241, 5698, 5242, 4854,
        4519, 4228, 3971, 3744, 3542, 3360, 3196, 3048, 2912, 2788, 2674, 2570,
        2473, 2383, 2299, 2221, 2148, 2080, 2016, 1956, 1899, 1846, 1795, 1747,
        1702, 1659, 1618, 1579, 1542, 1506, 1472, 1440, 1409, 1379, 1351, 1323,
        1297, 1272, 1248, 1224, 1202, 1180, 1159, 1139, 1120, 1101, 1083, 1065,
        SLOWEST};
    return steps[node >> 16];
#endif
}

static inline uint32_t one_of(waist_ctx_node node)
{
    return node & 0xffffu;
}

/* The chance moves by step / 2^16 of what it lacks. */
static inline waist_ctx_node toward_one(waist_ctx_node node, uint32_t step)
{
    return node + ((65536u - one_of(node)) * step >> 16);
}

static inline waist_ctx_node toward_zero(waist_ctx_node node, uint32_t step)
{
    return node - (one_of(node) * step >> 16);
}

/* Width of the part of the range that stands for 1; neither part is ever empty. */
static inline uint32_t split_range(uint32_t range, waist_ctx_node node)
{
    return (range >> 15) * (one_of(node) >> 1 | 1u);
}

/* The node that all nodes with this prefix have in common. */
static inline waist_ctx_node *common_of(waist_ctx_node *nodes, uint32_t prefix)
{
    return nodes + (prefix < COMMON ? prefix : 0);
}

/* A node that saw nothing begins with what its kind saw in any context. */
static inline waist_ctx_node adopted(waist_ctx_node node, waist_ctx_node common)
{
    return node < ONE_SEEN && common >= ONE_SEEN ? one_of(common) | ONE_SEEN : node;
}

static inline void teach(waist_ctx_node *common, uint32_t bit)
{
    const waist_ctx_node node = *common, step = step_of(node);

    *common = (bit ? toward_one(node, step) : toward_zero(node, step)) +
              (node < SETTLED ? ONE_SEEN : 0u);
}

/* Nodes of a code's first bits, by prefix. */
static inline waist_ctx_node *first_tree(const waist_ctx *ctx, uint32_t context)
{
    return ctx->nodes + COMMON + (context << (ctx->bits < FIRST ? ctx->bits : FIRST));
}

/* Nodes of the bits behind, by prefix. */
static inline waist_ctx_node *second_tree(const waist_ctx *ctx, uint32_t context)
{
    return ctx->nodes + BIG_NODES + (context >> 2 << ctx->bits);
}

/* 0..7 as they are, then four steps an octave: at most 31 for sums of two 8-bit codes. */
static inline uint32_t coarse(uint32_t sum)
{
    uint32_t octave = 0;

    for (; sum >= 8; sum >>= 1)
        octave += 4;
    return octave + sum;
}

static inline uint32_t context_of(uint32_t bits, const around *a)
{
    const uint32_t sum = a->left + a->up, apart = a->left - a->up; /* modulo 2^32 */

    switch (bits) {
    case 1:
        return a->left | a->up << 1 | a->up_left << 2 | a->up_right << 3 | a->left2 << 4;
    case 2:
        return a->left | a->up << 2 | (a->up_left > 0 ? 16u : 0u) | (a->up_right > 0 ? 32u : 0u);
    case 3:
        return sum << 2 | (a->up_right >= 2 ? 2u : 0u) | (apart + 1u > 2u ? 1u : 0u);
    case 4:
        return sum << 1 | (apart + 2u > 4u ? 1u : 0u);
    default:
        return coarse(sum);
    }
}

/* Before the first code of a row: what is not there counts as its nearest neighbour, or as 0. */
static inline around enter_row(const uint8_t *above, size_t row)
{
    const uint32_t first = row ? *above : 0u;
    const around a = {first, first, first, first, first};

    return a;
}

/* From one code to the next, below *above. */
static inline void look_up(around *a, const uint8_t *above, size_t row, int is_last)
{
    a->up_left = a->up;
    a->up = a->up_right;
    if (!row)
        a->up = a->up_left = a->up_right = a->left;
    else if (!is_last)
        a->up_right = above[1];
}

/* Behind a code. */
static inline void leave_code(around *a, uint8_t *above, uint32_t code)
{
    *above = (uint8_t)code;
    a->left2 = a->left;
    a->left = code;
}

/* Where a plane's first code lies; the next is `stride_of` behind, through all rows. */
static inline size_t plane_at(const waist_ctx *ctx, size_t plane)
{
    return ctx->interleaved ? plane : plane * ctx->rows * ctx->columns;
}

static inline size_t stride_of(const waist_ctx *ctx)
{
    return ctx->interleaved ? ctx->planes : 1;
}

/*
 * The shortest end: the value of the interval with most trailing zeros, which are not sent. It
 * lies `amount` above low and needs no byte more (0) or one (1).
 */
static inline uint32_t end_bytes(uint32_t low, uint32_t range, uint32_t *amount)
{
    *amount = 0u - low;
    if (*amount < range)
        return 0;
    *amount &= TOP - 1;
    return 1;
}

/*
 * Code the bits of a path until its bit `last` is set; returns how far it came. A path turns left
 * by a bit a decision: the bits to come are on top, at the bottom are those coded, behind a 1.
 */
uint32_t waist_ctx_bits(waist_ctx_out *e, waist_ctx_node *tree, uint32_t path, uint32_t last);

/* Behind the last bit. */
void waist_ctx_finish(waist_ctx_out *e);

/* Before the first code: no node saw anything. */
void waist_ctx_reset(const waist_ctx *ctx);

#endif
