/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adaptive binary range coder of packed codes, in the context of the codes to the left and above.
 * docs/decisions/0006-ctx-coder.md says why it is so.
 */
#include "waist_internal.h"

#define HALF 32768u
#define SETTLED 60u    /* bits seen after which a node adapts at its slowest */
#define YOUNG 4u       /* bits up to which a node teaches the common one */
#define TOP (1u << 24) /* range stays at least this */
/* Nodes of no context, by prefix; the first is for all bits behind a code's first four. */
#define COMMON 16u
/* bits > 4: where the nodes of the bits behind begin. */
#define BIG_NODES (COMMON + 32u * 16u)

/* State of the arithmetic. low is that of the interval, modulo 2^32. */
typedef struct {
    uint32_t low, range;
    uint8_t *out;
    size_t size, capacity;
    int full;
} encoder;

typedef struct {
    uint32_t code, range, last; /* code = the stream's value - low; last: 32 bits last read */
    const uint8_t *data;
    size_t at, size; /* bytes read, of them zeros behind the end; bytes there are */
} decoder;

/* Steps through the codes of a row; `shift` is the bit in packed[byte] that a code begins at. */
typedef struct {
    size_t byte, step_bytes;
    uint32_t shift, step_bits;
} cursor;

/* What surrounds a code. */
typedef struct {
    uint32_t left, left2, up, up_left, up_right;
} around;

size_t waist_ctx_nodes(uint32_t bits)
{
    static const uint16_t nodes[9] = {0, 80, 272, 496, 1008, 784, 1040, 1552, 2576};

    return bits <= 8 ? nodes[bits] : 0;
}

/* 2^16 / (seen + 2.5): a node follows the mean of what it saw, in the end of the last 60 or so. */
static inline uint32_t step_of(uint32_t seen)
{
#ifdef WAIST_SMALL
    return 131072u / (2u * seen + 5u);
#else
    static const uint16_t steps[SETTLED + 1] = {
        26214, 18724, 14563, 11915, 10082, 8738, 7710, 6898, 6241, 5698, 5242, 4854,
        4519, 4228, 3971, 3744, 3542, 3360, 3196, 3048, 2912, 2788, 2674, 2570,
        2473, 2383, 2299, 2221, 2148, 2080, 2016, 1956, 1899, 1846, 1795, 1747,
        1702, 1659, 1618, 1579, 1542, 1506, 1472, 1440, 1409, 1379, 1351, 1323,
        1297, 1272, 1248, 1224, 1202, 1180, 1159, 1139, 1120, 1101, 1083, 1065,
        1048};
    return steps[seen];
#endif
}

/* Width of the part of the range that stands for 1; neither part is ever empty. */
static inline uint32_t split_range(uint32_t range, const waist_ctx_node *node)
{
    return (range >> 15) * (((uint32_t)node->one >> 1) | 1u);
}

static inline void learn(waist_ctx_node *node, uint32_t bit)
{
    const uint32_t one = node->one, seen = node->seen, step = step_of(seen);

    node->one = (uint16_t)(bit ? one + ((65536u - one) * step >> 16) : one - (one * step >> 16));
    node->seen = (uint16_t)(seen + (seen < SETTLED));
}

/* A node that saw nothing begins with what its kind saw in any context. */
static inline void adopt(waist_ctx_node *node, const waist_ctx_node *common)
{
    if (common->seen) {
        node->one = common->one;
        node->seen = 1;
    }
}

static inline uint32_t apart(uint32_t a, uint32_t b)
{
    return a > b ? a - b : b - a;
}

/* 0..7 as they are, then four steps an octave: at most 31 for sums of two 8-bit codes. */
static inline uint32_t coarse(uint32_t sum)
{
    uint32_t octave = 0;

    for (; sum >= 8; sum >>= 1)
        octave += 4;
    return octave + sum;
}

static inline uint32_t context(uint32_t bits, const around *a)
{
    const uint32_t sum = a->left + a->up;

    switch (bits) {
    case 1:
        return a->left | a->up << 1 | a->up_left << 2 | a->up_right << 3 | a->left2 << 4;
    case 2:
        return a->left | a->up << 2 | (a->up_left > 0 ? 16u : 0u) | (a->up_right > 0 ? 32u : 0u);
    case 3:
        return sum << 2 | (a->up_right >= 2 ? 2u : 0u) | (apart(a->left, a->up) > 1 ? 1u : 0u);
    case 4:
        return sum << 1 | (apart(a->left, a->up) > 2 ? 1u : 0u);
    default:
        return coarse(sum);
    }
}

/* Nodes of a code's first bits, at most four, and of the bits behind; both indexed by prefix. */
static inline void trees(const waist_ctx *ctx, const around *a, waist_ctx_node **first,
                         waist_ctx_node **behind)
{
    const uint32_t c = context(ctx->bits, a);

    *first = ctx->nodes + COMMON + (c << (ctx->bits < 4 ? ctx->bits : 4u));
    *behind = ctx->bits > 4 ? ctx->nodes + BIG_NODES + ((c >> 2) << ctx->bits) : *first;
}

static inline void put_byte(encoder *e, uint32_t byte)
{
    if (e->size < e->capacity)
        e->out[e->size++] = (uint8_t)byte;
    else
        e->full = 1;
}

/* Add to low; a carry goes into the bytes already written, which cannot all be 255. */
static inline void add_low(encoder *e, uint32_t amount)
{
    const uint32_t low = e->low;

    e->low = low + amount;
    if (e->low < low)
        for (size_t i = e->size; i > 0 && ++e->out[i - 1] == 0;)
            i--;
}

static inline void encode_bit(encoder *e, waist_ctx_node *node, waist_ctx_node *common,
                              uint32_t bit)
{
    const uint32_t seen = node->seen;
    uint32_t part;

    if (seen == 0)
        adopt(node, common);
    part = split_range(e->range, node);
    if (bit) {
        e->range = part;
        learn(node, 1);
    } else {
        add_low(e, part);
        e->range -= part;
        learn(node, 0);
    }
    if (seen < YOUNG)
        learn(common, bit);
    while (e->range < TOP) {
        put_byte(e, e->low >> 24);
        e->low <<= 8;
        e->range <<= 8;
    }
}

static inline uint32_t next_byte(decoder *d)
{
    const uint32_t byte = d->at < d->size ? d->data[d->at] : 0u;

    d->at++;
    return byte;
}

static inline uint32_t decode_bit(decoder *d, waist_ctx_node *node, waist_ctx_node *common)
{
    const uint32_t seen = node->seen;
    uint32_t part, bit;

    if (seen == 0)
        adopt(node, common);
    part = split_range(d->range, node);
    if (d->code < part) {
        d->range = part;
        learn(node, 1);
        bit = 1;
    } else {
        d->code -= part;
        d->range -= part;
        learn(node, 0);
        bit = 0;
    }
    if (seen < YOUNG)
        learn(common, bit);
    while (d->range < TOP) {
        const uint32_t byte = next_byte(d);
        d->code = d->code << 8 | byte;
        d->last = d->last << 8 | byte;
        d->range <<= 8;
    }
    return bit;
}

/*
 * The shortest end: the value of the interval with most trailing zeros, which are not sent. It
 * lies `amount` above low and needs no byte more (0) or one (1).
 */
static uint32_t end_bytes(uint32_t low, uint32_t range, uint32_t *amount)
{
    *amount = 0u - low;
    if (*amount < range)
        return 0;
    *amount &= TOP - 1;
    return 1;
}

static cursor start(const waist_ctx *ctx, size_t plane, size_t row)
{
    const size_t columns = ctx->columns;
    const size_t first = ctx->interleaved ? row * columns * ctx->planes + plane
                                          : (plane * ctx->rows + row) * columns;
    const size_t step = ctx->interleaved ? ctx->planes : 1;
    const uint32_t bit = (uint32_t)(first % 8) * ctx->bits;
    const uint32_t step_bit = (uint32_t)(step % 8) * ctx->bits;
    cursor at;

    at.byte = first / 8 * ctx->bits + bit / 8;
    at.shift = bit % 8;
    at.step_bytes = step / 8 * ctx->bits + step_bit / 8;
    at.step_bits = step_bit % 8;
    return at;
}

static inline void advance(cursor *at)
{
    const uint32_t shift = at->shift + at->step_bits;

    at->byte += at->step_bytes + shift / 8;
    at->shift = shift % 8;
}

static inline uint32_t load_code(const uint8_t *packed, const cursor *at, uint32_t bits)
{
    uint32_t word = packed[at->byte];

    if (at->shift + bits > 8)
        word |= (uint32_t)packed[at->byte + 1] << 8;
    return word >> at->shift & ((1u << bits) - 1u);
}

/* Into bits that are zero. */
static inline void store_code(uint8_t *packed, const cursor *at, uint32_t bits, uint32_t code)
{
    const uint32_t word = code << at->shift;

    packed[at->byte] = (uint8_t)(packed[at->byte] | word);
    if (at->shift + bits > 8)
        packed[at->byte + 1] = (uint8_t)(packed[at->byte + 1] | word >> 8);
}

static void reset(const waist_ctx *ctx)
{
    for (size_t i = 0, nodes = waist_ctx_nodes(ctx->bits); i < nodes; i++) {
        ctx->nodes[i].one = HALF;
        ctx->nodes[i].seen = 0;
    }
}

/* Before the first code of a row: what is not there counts as its nearest neighbour, or as 0. */
static inline void enter_row(const waist_ctx *ctx, size_t row, around *a)
{
    a->left = a->left2 = a->up = row ? ctx->above[0] : 0u;
}

/* Before code x; a->left and a->left2 are set, a->up is that of the code before. */
static inline void look_up(const waist_ctx *ctx, size_t row, size_t x, around *a)
{
    a->up_left = a->up;
    if (row) {
        a->up = ctx->above[x];
        a->up_right = x + 1 < ctx->columns ? ctx->above[x + 1] : a->up;
    } else {
        a->up = a->up_left = a->up_right = a->left;
    }
}

static inline void leave_code(const waist_ctx *ctx, size_t x, uint32_t code, around *a)
{
    ctx->above[x] = (uint8_t)code;
    a->left2 = a->left;
    a->left = code;
}

static inline void encode_row(const waist_ctx *ctx, const uint8_t *packed, size_t plane,
                              size_t row, encoder *kept)
{
    const uint32_t bits = ctx->bits;
    encoder e = *kept; /* a copy that stays in registers */
    cursor at = start(ctx, plane, row);
    around a;

    enter_row(ctx, row, &a);
    for (size_t x = 0; x < ctx->columns; x++, advance(&at)) {
        const uint32_t code = load_code(packed, &at, bits);
        waist_ctx_node *first, *behind;
        uint32_t prefix = 1;

        look_up(ctx, row, x, &a);
        trees(ctx, &a, &first, &behind);
        for (uint32_t left = bits; left-- > 0;) {
            const uint32_t bit = code >> left & 1u;
            encode_bit(&e, (prefix < 16 ? first : behind) + prefix,
                       ctx->nodes + (prefix < 16 ? prefix : 0), bit);
            prefix = prefix << 1 | bit;
        }
        leave_code(ctx, x, code, &a);
    }
    *kept = e;
}

static inline void decode_row(const waist_ctx *ctx, uint8_t *packed, size_t plane, size_t row,
                              decoder *kept)
{
    const uint32_t bits = ctx->bits;
    decoder d = *kept;
    cursor at = start(ctx, plane, row);
    around a;

    enter_row(ctx, row, &a);
    for (size_t x = 0; x < ctx->columns; x++, advance(&at)) {
        waist_ctx_node *first, *behind;
        uint32_t prefix = 1;

        look_up(ctx, row, x, &a);
        trees(ctx, &a, &first, &behind);
        for (uint32_t left = bits; left-- > 0;)
            prefix = prefix << 1 | decode_bit(&d, (prefix < 16 ? first : behind) + prefix,
                                              ctx->nodes + (prefix < 16 ? prefix : 0));
        prefix -= 1u << bits;
        store_code(packed, &at, bits, prefix);
        leave_code(ctx, x, prefix, &a);
    }
    *kept = d;
}

int waist_ctx_encode(const waist_ctx *ctx, const uint8_t *packed, uint8_t *out, size_t capacity,
                     size_t *size)
{
    encoder e = {0, 0xffffffffu, out, 0, capacity, 0};
    uint32_t amount, bytes;

    if (waist_ctx_nodes(ctx->bits) == 0)
        return WAIST_BAD_BITS;
    reset(ctx);
    for (size_t plane = 0; plane < ctx->planes; plane++)
        for (size_t row = 0; row < ctx->rows && !e.full; row++)
            encode_row(ctx, packed, plane, row, &e);
    bytes = end_bytes(e.low, e.range, &amount);
    add_low(&e, amount);
    if (bytes)
        put_byte(&e, e.low >> 24);
    *size = e.size;
    return e.full ? WAIST_TOO_LONG : WAIST_OK;
}

int waist_ctx_decode(const waist_ctx *ctx, const uint8_t *data, size_t size, uint8_t *packed)
{
    decoder d = {0, 0xffffffffu, 0, data, 0, size};
    const size_t total = waist_packed_size(ctx->planes * ctx->rows * ctx->columns, ctx->bits);
    uint32_t amount, bytes;

    if (waist_ctx_nodes(ctx->bits) == 0)
        return WAIST_BAD_BITS;
    reset(ctx);
    for (size_t i = 0; i < total; i++)
        packed[i] = 0;
    for (uint32_t i = 0; i < 4; i++)
        d.last = d.last << 8 | next_byte(&d);
    d.code = d.last;
    if (d.code >= d.range)
        return WAIST_CORRUPT;
    for (size_t plane = 0; plane < ctx->planes; plane++)
        for (size_t row = 0; row < ctx->rows; row++) {
            if (d.at > size && d.at - size > 4)
                return WAIST_CORRUPT; /* the encoder leaves out four zeros at most */
            decode_row(ctx, packed, plane, row, &d);
        }
    bytes = end_bytes(d.last - d.code, d.range, &amount);
    return d.code == amount && size == d.at - 4 + bytes ? WAIST_OK : WAIST_CORRUPT;
}
