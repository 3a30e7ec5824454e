/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The context coder's arithmetic, out. Written for few instructions on a Cortex-M, where it is
 * compiled for speed: what a decision needs fits in registers, what is rare lies behind.
 */
#include "waist_ctx_model.h"

static inline void put_byte(waist_ctx_out *e, uint32_t byte)
{
    if (e->out < e->end)
        *e->out++ = (uint8_t)byte;
    else
        e->full = 1;
}

/* A carry goes into the bytes already written, which cannot all be 255. */
static inline void carry(const waist_ctx_out *e)
{
    uint8_t *at = e->out;

    while (at > e->begin && ++*--at == 0) {
    }
}

/*
 * A node that is not settled sees one bit more, the lowest of `path`. A young one begins with what
 * its kind knows, which in turn learns from it.
 */
static inline waist_ctx_node meet(waist_ctx_node *nodes, waist_ctx_node node, uint32_t path)
{
    if (node < YOUNG) {
        waist_ctx_node *const common = common_of(nodes, path >> 1 & 255u);

        node = adopted(node, *common);
        teach(common, path & 1u);
    }
    return node + ONE_SEEN;
}

uint32_t waist_ctx_bits(waist_ctx_out *e, waist_ctx_node *tree, uint32_t path, uint32_t last)
{
    uint32_t low = e->low, range = e->range;

    do {
        const uint32_t prefix = path & 255u;
        waist_ctx_node node = tree[prefix];
        uint32_t part, step = SLOWEST;

        path = path << 1 | path >> 31;
        if (RARELY(node < SETTLED)) {
            node = meet(e->nodes, node, path);
            step = step_of(node - ONE_SEEN);
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

void waist_ctx_finish(waist_ctx_out *e)
{
    uint32_t amount;

    if (end_bytes(e->low, e->range, &amount))
        put_byte(e, (e->low + amount) >> 24); /* no carry: low is more than a range below 2^32 */
    else if (amount)
        carry(e);
}
