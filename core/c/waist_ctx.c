/* SPDX-License-Identifier: Apache-2.0 */
/* The context coder's memory. */
#include "waist_ctx_model.h"

size_t waist_ctx_nodes(uint32_t bits)
{
    static const uint16_t nodes[9] = {0, 80, 272, 496, 1008, 784, 1040, 1552, 2576};

    return bits <= 8 ? nodes[bits] : 0;
}

void waist_ctx_reset(const waist_ctx *ctx)
{
    for (size_t i = 0, nodes = waist_ctx_nodes(ctx->bits); i < nodes; i++)
        ctx->nodes[i] = UNKNOWN;
}
