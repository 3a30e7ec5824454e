/* SPDX-License-Identifier: Apache-2.0 */
/* Equal steps over a range: affine, q1, q1h. */
#include "waist_internal.h"

uint32_t waist_version(void)
{
    return WAIST_VERSION;
}

int waist_map_init(waist_map *map, int rule, uint32_t bits, size_t channels, const float *lo,
                   const float *hi, float *storage)
{
    float *pre = storage, *base = pre + channels, *gain = base + channels;
    float *origin = gain + channels, *step = origin + channels, *post = step + channels;
    float *ceiling = post + channels;
    uint32_t scaled = 0;
    float steps;

    if (bits < 1 || bits > 8)
        return WAIST_BAD_BITS;
    steps = (float)((1u << bits) - (rule == WAIST_AFFINE ? 1u : 0u));
    for (size_t c = 0; c < channels; c++) {
        float low = lo[c] + 0.0f, high = hi[c] + 0.0f;
        if (!waist_is_finite(low) || !waist_is_finite(high) || !(low <= high))
            return WAIST_BAD_RANGE;
        pre[c] = post[c] = 1.0f;
        base[c] = low;
        gain[c] = step[c] = 0.0f;
        if (low < high) {
            float half = 0.5f * high - 0.5f * low;
            float span;
            if (half > 0x1p120f)
                pre[c] = 0x1p-8f;
            else if (half < 0x1p-64f)
                pre[c] = 0x1p60f;
            if (pre[c] != 1.0f) {
                scaled = 1;
                post[c] = 1.0f / pre[c];
            }
            base[c] = low * pre[c];
            span = high * pre[c] - base[c];
            gain[c] = steps / span;
            step[c] = span / steps;
        }
        origin[c] = rule == WAIST_Q1H ? base[c] + 0.5f * step[c] : base[c];
        ceiling[c] = high;
    }
    map->channels = channels;
    map->bits = bits;
    map->scaled = scaled;
    map->rounding = rule == WAIST_AFFINE ? 0.5f : 0.0f;
    map->top = (float)(1u << bits) - 0.5f;
    map->pre = pre;
    map->base = base;
    map->gain = gain;
    map->origin = origin;
    map->step = step;
    map->post = post;
    map->ceiling = ceiling;
    return WAIST_OK;
}

/*
 * The codes go through 32-bit words, of which the low bytes are then taken: compilers turn both
 * steps into vector code, and the second one into half the shuffles of a direct conversion.
 */
#define QUANTIZE(value, base, gain, clip)                                                          \
    float t = ((value) - (base)) * (gain) + rounding;                                              \
    clip;                                                                                          \
    words[i] = (int32_t)t

#define CLIP_TOP t = t < top ? t : top
#define CLIP                                                                                       \
    t = t > 0.0f ? t : 0.0f;                                                                       \
    CLIP_TOP

#define EACH(statement)                                                                            \
    for (size_t i = 0; i < count; i++) {                                                           \
        statement;                                                                                 \
    }

/*
 * `count` values of channel c. What changes nothing is left out: multiplying by pre == 1, and
 * clipping what lies within the range (only q1 reaches `top` then).
 */
static void quantize_run(const float *restrict x, size_t count, const waist_map *map, size_t c,
                         int within, int32_t *restrict words)
{
    const float pre = map->pre[c], base = map->base[c], gain = map->gain[c];
    const float rounding = map->rounding, top = map->top;

    if (pre != 1.0f)
        EACH(QUANTIZE(x[i] * pre, base, gain, CLIP))
    else if (!within)
        EACH(QUANTIZE(x[i], base, gain, CLIP))
    else if (rounding == 0.0f)
        EACH(QUANTIZE(x[i], base, gain, CLIP_TOP))
    else
        EACH(QUANTIZE(x[i], base, gain, (void)top))
}

/* `count` values of the channels c, c + 1, .. */
static void quantize_row(const float *restrict x, size_t count, const waist_map *map, size_t c,
                         int within, int32_t *restrict words)
{
    const float *restrict pre = map->pre + c, *restrict base = map->base + c;
    const float *restrict gain = map->gain + c;
    const float rounding = map->rounding, top = map->top;

    if (map->scaled)
        EACH(QUANTIZE(x[i] * pre[i], base[i], gain[i], CLIP))
    else if (!within)
        EACH(QUANTIZE(x[i], base[i], gain[i], CLIP))
    else
        EACH(QUANTIZE(x[i], base[i], gain[i], CLIP_TOP))
}

static void low_bytes(const int32_t *restrict words, size_t count, uint8_t *restrict codes)
{
    const uint8_t *bytes = (const uint8_t *)words + WAIST_LOW_BYTE;
    EACH(codes[i] = bytes[4 * i])
}

#define DEQUANTIZE(origin, step, post, ceiling)                                                    \
    float v = ((origin) + (float)(int32_t)codes[i] * (step)) post;                                 \
    x[i] = v < (ceiling) ? v : (ceiling)

static void dequantize_run(const uint8_t *restrict codes, size_t count, const waist_map *map,
                           size_t c, float *restrict x)
{
    const float origin = map->origin[c], step = map->step[c];
    const float post = map->post[c], ceiling = map->ceiling[c];

    if (post == 1.0f)
        EACH(DEQUANTIZE(origin, step, , ceiling))
    else
        EACH(DEQUANTIZE(origin, step, *post, ceiling))
}

static void dequantize_row(const uint8_t *restrict codes, size_t count, const waist_map *map,
                           size_t c, float *restrict x)
{
    const float *restrict origin = map->origin + c, *restrict step = map->step + c;
    const float *restrict post = map->post + c, *restrict ceiling = map->ceiling + c;

    if (!map->scaled)
        EACH(DEQUANTIZE(origin[i], step[i], , ceiling[i]))
    else
        EACH(DEQUANTIZE(origin[i], step[i], *post[i], ceiling[i]))
}

/*
 * Where a stretch of memory with one rule of arithmetic begins and ends: all of the tensor, the
 * inner elements of one channel, or a row of all channels.
 */
typedef struct {
    size_t left, length, channel, channels;
    int rows;
} walk;

static walk walk_from(waist_shape shape)
{
    walk w = {0, shape.inner, 0, shape.channels, shape.inner == 1 && shape.channels > 1};
    if (w.rows)
        w.length = shape.channels;
    else if (shape.channels == 1)
        w.length = shape.inner * shape.outer;
    w.left = w.length;
    return w;
}

static void walk_on(walk *w, size_t some)
{
    w->left -= some;
    if (w->left == 0) {
        w->left = w->length;
        if (!w->rows && ++w->channel == w->channels)
            w->channel = 0;
    }
}

int waist_encode(const float *x, waist_shape shape, const waist_map *map, int within,
                 uint8_t *packed)
{
    size_t count = shape.outer * shape.channels * shape.inner;
    int32_t words[WAIST_BLOCK];
    waist_block block;
    walk w = walk_from(shape);

    for (size_t at = 0; at < count; at += WAIST_BLOCK) {
        size_t here = waist_here(count, at);
        if (!within && !waist_all_finite(x + at, here))
            return WAIST_NONFINITE;
        for (size_t done = 0; done < here;) {
            size_t some = w.left < here - done ? w.left : here - done;
            const float *from = x + at + done;
            if (w.rows)
                quantize_row(from, some, map, w.length - w.left, within, words + done);
            else
                quantize_run(from, some, map, w.channel, within, words + done);
            walk_on(&w, some);
            done += some;
        }
        if (map->bits == 8) {
            low_bytes(words, here, packed);
        } else {
            low_bytes(words, here, block.codes);
            waist_pack_block(&block, here, map->bits, packed);
        }
        packed += waist_packed_size(here, map->bits);
    }
    return WAIST_OK;
}

void waist_decode(const uint8_t *packed, waist_shape shape, const waist_map *map, float *x)
{
    size_t count = shape.outer * shape.channels * shape.inner;
    waist_block block;
    walk w = walk_from(shape);

    for (size_t at = 0; at < count; at += WAIST_BLOCK) {
        size_t here = waist_here(count, at);
        const uint8_t *codes = packed;
        if (map->bits != 8) {
            waist_unpack_block(packed, here, map->bits, &block);
            codes = block.codes;
        }
        packed += waist_packed_size(here, map->bits);
        for (size_t done = 0; done < here;) {
            size_t some = w.left < here - done ? w.left : here - done;
            if (w.rows)
                dequantize_row(codes + done, some, map, w.length - w.left, x + at + done);
            else
                dequantize_run(codes + done, some, map, w.channel, x + at + done);
            walk_on(&w, some);
            done += some;
        }
    }
}
