/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adaptive binary range coder of codes, in the context of the codes to the left and above: codes
 * to stream. Written for few instructions on a Cortex-M: what a decision needs fits in registers.
 */
#include "waist_ctx_model.h"

/* State of the arithmetic. low is that of the interval, modulo 2^32. */
typedef struct {
    uint32_t low, range;
    uint8_t *out;
    const uint8_t *begin, *end;
    int full;
    waist_ctx_node *nodes;
} encoder;

static inline void put_byte(encoder *e, uint32_t byte)
{
    if (e->out < e->end)
        *e->out++ = (uint8_t)byte;
    else
        e->full = 1;
}

/* A carry goes into the bytes already written, which cannot all be 255. */
static inline void carry(const encoder *e)
{
    uint8_t *at = e->out;

    while (at > e->begin && ++*--at == 0) {
    }
}

/*
 * Code the bits of a path until its bit `last` is set; returns how far it came. A path turns left
 * by a bit a decision: the bits to come are on top, at the bottom are those coded behind a 1.
 */
WAIST_APART static uint32_t encode_bits(encoder *e, waist_ctx_node *tree, uint32_t path,
                                        uint32_t last)
{
    uint32_t low = e->low, range = e->range;

    do {
        const uint32_t prefix = path & 255u;
        waist_ctx_node node = tree[prefix];
        uint32_t part, step = SLOWEST;

        path = path << 1 | path >> 31;
        if (RARELY(node < SETTLED)) {
            if (RARELY(node < YOUNG)) {
                node = adopted(node, *common_of(e->nodes, prefix));
                teach(common_of(e->nodes, prefix), path & 1u);
            }
            step = step_of(node);
            node += ONE_SEEN;
        }
        part = split_range(range, node);
        if (path & 1u) {
            range = part;
            node = toward_one(node, step);
        } else {
            range -= part;
            node = toward_zero(node, step);
            low += part;
            if (RARELY(low < part))
                carry(e);
        }
        tree[prefix] = node;
        while (RARELY(range < TOP)) {
            put_byte(e, low >> 24);
            low <<= 8;
            range <<= 8;
        }
    } while (!(path & last));
    e->low = low;
    e->range = range;
    return path;
}

static inline void encode_row(const waist_ctx *ctx, const uint8_t *values, const uint8_t *table,
                              size_t row, encoder *e)
{
    const uint32_t bits = ctx->bits;
    const size_t stride = stride_of(ctx);
    uint8_t *above = ctx->above, *const end = above + ctx->columns;
    around a = enter_row(above, row);

    for (; above < end; above++, values += stride) {
        const uint32_t code = table ? table[*values] : *values;
        uint32_t context, path = code << (32 - bits) | 1u;

        look_up(&a, above, row, above + 1 == end);
        context = context_of(bits, &a);
        leave_code(&a, above, code);
        if (bits <= FIRST) {
            encode_bits(e, first_tree(ctx, context), path, 1u << bits);
        } else {
            path = encode_bits(e, first_tree(ctx, context), path, 1u << FIRST);
            encode_bits(e, second_tree(ctx, context), path, 1u << bits);
        }
    }
}

int waist_ctx_encode(const waist_ctx *ctx, const uint8_t *values, const uint8_t *table,
                     uint8_t *out, size_t capacity, size_t *size)
{
    encoder e = {0, 0xffffffffu, out, out, out + capacity, 0, ctx->nodes};
    const size_t row_bytes = ctx->columns * stride_of(ctx);
    uint32_t amount, bytes;

    if (waist_ctx_nodes(ctx->bits) == 0)
        return WAIST_BAD_BITS;
    waist_ctx_reset(ctx);
    for (size_t plane = 0; plane < ctx->planes; plane++)
        for (size_t row = 0; row < ctx->rows && !e.full; row++)
            encode_row(ctx, values + plane_at(ctx, plane) + row * row_bytes, table, row, &e);
    bytes = end_bytes(e.low, e.range, &amount);
    e.low += amount;
    if (e.low < amount)
        carry(&e);
    if (bytes)
        put_byte(&e, e.low >> 24);
    *size = (size_t)(e.out - e.begin);
    return e.full ? WAIST_TOO_LONG : WAIST_OK;
}
