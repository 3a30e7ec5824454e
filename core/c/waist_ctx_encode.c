/* SPDX-License-Identifier: Apache-2.0 */
/* The context coder's way out: codes to a stream. */
#include "waist_ctx_model.h"

/*
 * The row's first value lies at the address `at`; returns that of the next row's. The last step of
 * an interleaved plane leads beyond the tensor, where a number may go and a pointer must not; an
 * index would be an instruction more.
 */
static inline uintptr_t encode_row(const waist_ctx *ctx, uintptr_t at, const uint8_t *table,
                                   size_t row, waist_ctx_out *e)
{
    const uint32_t bits = ctx->bits, first = bits < FIRST ? bits : FIRST, last = 1u << first;
    const size_t stride = stride_of(ctx);
    waist_ctx_node *const trees = ctx->nodes + COMMON;
    uint8_t *above = ctx->above, *const end = above + ctx->columns;
    around a = enter_row(above, row);

    for (; above < end; above++, at += stride) {
        const uint32_t value = *(const uint8_t *)at, code = table ? table[value] : value;
        uint32_t context, path = code << (32 - bits) | 1u;

        look_up(&a, above, row, above + 1 == end);
        context = context_of(bits, &a);
        leave_code(&a, above, code);
        path = waist_ctx_bits(e, trees + (context << first), path, last);
        if (bits > FIRST)
            waist_ctx_bits(e, second_tree(ctx, context), path, 1u << bits);
    }
    return at;
}

int waist_ctx_encode(const waist_ctx *ctx, const uint8_t *values, const uint8_t *table,
                     uint8_t *out, size_t capacity, size_t *size)
{
    waist_ctx_out e = {0, 0xffffffffu, out, out, out + capacity, 0, ctx->nodes};

    if (waist_ctx_nodes(ctx->bits) == 0)
        return WAIST_BAD_BITS;
    waist_ctx_reset(ctx);
    for (size_t plane = 0; plane < ctx->planes; plane++) {
        uintptr_t at = (uintptr_t)(values + plane_at(ctx, plane));

        for (size_t row = 0; row < ctx->rows && !e.full; row++)
            at = encode_row(ctx, at, table, row, &e);
    }
    waist_ctx_finish(&e);
    *size = (size_t)(e.out - e.begin);
    return e.full ? WAIST_TOO_LONG : WAIST_OK;
}
