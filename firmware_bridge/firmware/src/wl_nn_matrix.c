/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sums of products: the inner loop of convolution, pointwise and fully connected layers.
 *
 * Four pixels times two channels: eight sums stay in registers, and a word of weights, widened
 * once, serves four pixels. With Arm's DSP extension that is 13 instructions and five words loaded
 * for 16 products.
 */
#include "wl_nn_core.h"

/* Elements 0 and 2, then 1 and 3, of four to `to` and `apart` elements behind. */
#if WL_DSP
typedef uint32_t wl_word;
#define WL_PER_WORD 1u
WL_INLINE void widen(uint32_t four, wl_word *to, size_t apart)
{
    to[0] = wl_sxtb16(four);
    to[apart] = wl_sxtb16_odd(four);
}
#else
typedef int16_t wl_word;
#define WL_PER_WORD 2u
WL_INLINE void widen(uint32_t four, wl_word *to, size_t apart)
{
    to[0] = (int8_t)(four & 0xffu);
    to[1] = (int8_t)(four >> 16 & 0xffu);
    to[apart] = (int8_t)(four >> 8 & 0xffu);
    to[apart + 1] = (int8_t)(four >> 24);
}
#endif

void wl_widen(const int8_t *from, size_t fours, void *to, size_t pixels)
{
    wl_word *at = to;
    if (pixels == 4)
        for (; fours > 0; fours--, from += 4, at += 8 * WL_PER_WORD)
            widen(wl_load32(from), at, 4 * WL_PER_WORD);
    else
        for (; fours > 0; fours--, from += 4, at += 2 * WL_PER_WORD)
            widen(wl_load32(from), at, WL_PER_WORD);
}

void wl_widen_four(const int8_t *from, size_t step, size_t fours, void *to)
{
    const int8_t *b = from + step, *c = b + step, *d = c + step;
    wl_word *at = to;
    for (; fours > 0; fours--, from += 4, b += 4, c += 4, d += 4, at += 8 * WL_PER_WORD) {
        widen(wl_load32(from), at, 4 * WL_PER_WORD);
        widen(wl_load32(b), at + WL_PER_WORD, 4 * WL_PER_WORD);
        widen(wl_load32(c), at + 2 * WL_PER_WORD, 4 * WL_PER_WORD);
        widen(wl_load32(d), at + 3 * WL_PER_WORD, 4 * WL_PER_WORD);
    }
}

/* Two products each of four pixels and two channels. */
#if WL_DSP
#define WL_STEP                                                                                   \
    do {                                                                                          \
        const uint32_t four = wl_load32(weights);                                                 \
        const uint32_t v = wl_sxtb16(four), w = wl_sxtb16_odd(four);                              \
        a0 = wl_smlad(words[0], v, a0), b0 = wl_smlad(words[0], w, b0);                           \
        a1 = wl_smlad(words[1], v, a1), b1 = wl_smlad(words[1], w, b1);                           \
        a2 = wl_smlad(words[2], v, a2), b2 = wl_smlad(words[2], w, b2);                           \
        a3 = wl_smlad(words[3], v, a3), b3 = wl_smlad(words[3], w, b3);                           \
        weights += 4, words += 4;                                                                 \
    } while (0)
#else
#define WL_HALF_STEP(k)                                                                           \
    do {                                                                                          \
        const int32_t v = weights[2 * (k)], w = weights[2 * (k) + 1];                             \
        int32_t x = words[k];                                                                     \
        a0 += x * v, b0 += x * w;                                                                 \
        x = words[2 + (k)];                                                                       \
        a1 += x * v, b1 += x * w;                                                                 \
        x = words[4 + (k)];                                                                       \
        a2 += x * v, b2 += x * w;                                                                 \
        x = words[6 + (k)];                                                                       \
        a3 += x * v, b3 += x * w;                                                                 \
    } while (0)
#define WL_STEP                                                                                   \
    do {                                                                                          \
        WL_HALF_STEP(0);                                                                          \
        WL_HALF_STEP(1);                                                                          \
        weights += 4, words += 8;                                                                 \
    } while (0)
#endif
#define WL_STEPS2                                                                                 \
    do {                                                                                          \
        WL_STEP;                                                                                  \
        WL_STEP;                                                                                  \
    } while (0)

WL_INLINE int8_t finished(const wl_matrix_t *m, int32_t acc, const wl_requant_t *r,
                          const wl_short_t *s, int is_short)
{
    return is_short ? wl_shortly(acc, s, 0) : wl_exact(acc, r, &m->out);
}

WL_INLINE void four(const wl_matrix_t *m, const wl_word *columns, int8_t *out, int is_short)
{
    const int8_t *weights = m->weights;
    const wl_requant_t *r = m->requant;
    const size_t channels = m->channels;

    for (size_t left = channels;;) {
        const wl_word *words = columns;
        int32_t a0 = r[0].bias, a1 = a0, a2 = a0, a3 = a0;
        int32_t b0 = r[1].bias, b1 = b0, b2 = b0, b3 = b0;

        for (size_t i = m->depth4 / 4; i > 0; i--)
            WL_STEPS2;

        int8_t *to = out;
        wl_short_t s = wl_short_of(&r[0], &m->out, 0);
        to[0] = finished(m, a0, &r[0], &s, is_short);
        to += channels;
        to[0] = finished(m, a1, &r[0], &s, is_short);
        to += channels;
        to[0] = finished(m, a2, &r[0], &s, is_short);
        to += channels;
        to[0] = finished(m, a3, &r[0], &s, is_short);
        if (left == 1)
            return;
        s = wl_short_of(&r[1], &m->out, 0);
        to[1] = finished(m, b3, &r[1], &s, is_short);
        to -= channels;
        to[1] = finished(m, b2, &r[1], &s, is_short);
        to -= channels;
        to[1] = finished(m, b1, &r[1], &s, is_short);
        to -= channels;
        to[1] = finished(m, b0, &r[1], &s, is_short);
        out += 2;
        r += 2;
        left -= 2;
        if (left == 0)
            return;
    }
}

void wl_matrix_four(const wl_matrix_t *m, const void *columns, int8_t *out)
{
#if WL_ASSEMBLY
    if (m->is_short) {
        const size_t code = 52, steps = m->depth4 / 2;
        const wl_four_t f = {
            m->weights, m->requant, columns, (8u - steps % 8u) % 8u * code,
            (const int8_t *)columns + 16 * steps, 2 * m->out.zero + 1, out, m->channels,
            m->channels,
        };
        wl_four_m4(&f);
        return;
    }
    four(m, columns, out, 0);
#else
    if (m->is_short)
        four(m, columns, out, 1);
    else
        four(m, columns, out, 0);
#endif
}

void wl_matrix_one(const wl_matrix_t *m, const void *column, int8_t *out)
{
    const int8_t *weights = m->weights;
    const wl_requant_t *r = m->requant;

    for (size_t left = m->channels;;) {
        const wl_word *words = column;
        int32_t a = r[0].bias, b = r[1].bias;
        wl_short_t s;

        for (size_t i = m->depth4 / 4; i > 0; i--, weights += 8) {
#if WL_DSP
            uint32_t first = wl_load32(weights), second = wl_load32(weights + 4);
            a = wl_smlad(words[0], wl_sxtb16(first), a);
            b = wl_smlad(words[0], wl_sxtb16_odd(first), b);
            a = wl_smlad(words[1], wl_sxtb16(second), a);
            b = wl_smlad(words[1], wl_sxtb16_odd(second), b);
            words += 2;
#else
            a += words[0] * weights[0] + words[1] * weights[2];
            b += words[0] * weights[1] + words[1] * weights[3];
            a += words[2] * weights[4] + words[3] * weights[6];
            b += words[2] * weights[5] + words[3] * weights[7];
            words += 4;
#endif
        }
        s = wl_short_of(&r[0], &m->out, 0);
        out[0] = finished(m, a, &r[0], &s, m->is_short);
        if (left == 1)
            return;
        s = wl_short_of(&r[1], &m->out, 0);
        out[1] = finished(m, b, &r[1], &s, m->is_short);
        out += 2;
        r += 2;
        left -= 2;
        if (left == 0)
            return;
    }
}
