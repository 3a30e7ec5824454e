/* SPDX-License-Identifier: Apache-2.0 */
/* The context coder's way back: stream to codes. */
#include "waist_ctx_model.h"

typedef struct {
    uint32_t code, range, last; /* code = the stream's value - low; last: 32 bits last read */
    const uint8_t *data;
    size_t at, size; /* bytes read, of them zeros behind the end; bytes there are */
    waist_ctx_node *nodes;
} decoder;

static inline uint32_t next_byte(decoder *d)
{
    const uint32_t byte = d->at < d->size ? d->data[d->at] : 0u;

    d->at++;
    return byte;
}

/* Decode bits behind `prefix` until its bit `last` is set. */
static inline uint32_t decode_bits(decoder *d, waist_ctx_node *tree, uint32_t prefix,
                                   uint32_t last)
{
    uint32_t code = d->code, range = d->range;

    do {
        const waist_ctx_node before = tree[prefix];
        waist_ctx_node node = before, *const common = common_of(d->nodes, prefix);
        uint32_t part, bit, step = SLOWEST;

        if (RARELY(before < SETTLED)) {
            if (RARELY(before < YOUNG))
                node = adopted(node, *common);
            step = step_of(node);
            node += ONE_SEEN;
        }
        part = split_range(range, node);
        if (code < part) {
            range = part;
            tree[prefix] = toward_one(node, step);
            bit = 1;
        } else {
            code -= part;
            range -= part;
            tree[prefix] = toward_zero(node, step);
            bit = 0;
        }
        if (RARELY(before < YOUNG))
            teach(common, bit);
        prefix = prefix << 1 | bit;
        while (RARELY(range < TOP)) {
            const uint32_t byte = next_byte(d);
            code = code << 8 | byte;
            d->last = d->last << 8 | byte;
            range <<= 8;
        }
    } while (!(prefix & last));
    d->code = code;
    d->range = range;
    return prefix;
}

/* The row's first code is number `at`. */
static inline void decode_row(const waist_ctx *ctx, uint8_t *codes, size_t at, size_t row,
                              decoder *d)
{
    const uint32_t bits = ctx->bits;
    const size_t stride = stride_of(ctx);
    uint8_t *above = ctx->above, *const end = above + ctx->columns;
    around a = enter_row(above, row);

    for (; above < end; above++, at += stride) {
        uint32_t context, code;

        look_up(&a, above, row, above + 1 == end);
        context = context_of(bits, &a);
        code = decode_bits(d, first_tree(ctx, context), 1, 1u << (bits < FIRST ? bits : FIRST));
        if (bits > FIRST)
            code = decode_bits(d, second_tree(ctx, context), code, 1u << bits);
        code -= 1u << bits;
        codes[at] = (uint8_t)code;
        leave_code(&a, above, code);
    }
}

int waist_ctx_decode(const waist_ctx *ctx, const uint8_t *data, size_t size, uint8_t *codes)
{
    decoder d = {0, 0xffffffffu, 0, data, 0, size, ctx->nodes};
    const size_t row_bytes = ctx->columns * stride_of(ctx);
    uint32_t amount, bytes;

    if (waist_ctx_nodes(ctx->bits) == 0)
        return WAIST_BAD_BITS;
    waist_ctx_reset(ctx);
    for (uint32_t i = 0; i < 4; i++)
        d.last = d.last << 8 | next_byte(&d);
    d.code = d.last;
    if (d.code >= d.range)
        return WAIST_CORRUPT;
    for (size_t plane = 0; plane < ctx->planes; plane++)
        for (size_t row = 0; row < ctx->rows; row++) {
            if (d.at > size && d.at - size > 4)
                return WAIST_CORRUPT; /* the encoder leaves out four zeros at most */
            decode_row(ctx, codes, plane_at(ctx, plane) + row * row_bytes, row, &d);
        }
    bytes = end_bytes(d.last - d.code, d.range, &amount);
    return d.code == amount && size == d.at - 4 + bytes ? WAIST_OK : WAIST_CORRUPT;
}
