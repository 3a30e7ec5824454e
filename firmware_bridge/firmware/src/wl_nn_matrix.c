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

static __attribute__((noinline)) int8_t finished(const wl_matrix_t *m, int32_t acc,
                                                 const wl_requant_t *r)
{
    const wl_short_t s = wl_short_of(r, &m->out, 0);
    return m->is_short ? wl_shortly(acc, &s, 0) : wl_exact(acc, r, &m->out);
}

/* The sums of one pixel, whose words lie `apart`, with every channel. */
static void one(const wl_matrix_t *m, const wl_word *column, size_t apart, int8_t *out)
{
    const int8_t *weights = m->weights;
    const wl_requant_t *r = m->requant;

    for (size_t left = m->channels;; left -= 2, r += 2, out += 2) {
        const wl_word *words = column;
        int32_t a = r[0].bias, b = r[1].bias;

        for (size_t i = m->depth4 / 4; i > 0; i--, weights += 8, words += 2 * apart) {
#if WL_DSP
            const uint32_t first = wl_load32(weights), second = wl_load32(weights + 4);
            a = wl_smlad(words[0], wl_sxtb16(first), a);
            b = wl_smlad(words[0], wl_sxtb16_odd(first), b);
            a = wl_smlad(words[apart], wl_sxtb16(second), a);
            b = wl_smlad(words[apart], wl_sxtb16_odd(second), b);
#else
            const wl_word *next = words + apart;
            a += words[0] * weights[0] + words[1] * weights[2];
            b += words[0] * weights[1] + words[1] * weights[3];
            a += next[0] * weights[4] + next[1] * weights[6];
            b += next[0] * weights[5] + next[1] * weights[7];
#endif
        }
        out[0] = finished(m, a, &r[0]);
        if (left == 1)
            return;
        out[1] = finished(m, b, &r[1]);
        if (left == 2)
            return;
    }
}

void wl_matrix_one(const wl_matrix_t *m, const void *column, int8_t *out)
{
    one(m, column, WL_PER_WORD, out);
}

#if WL_ASSEMBLY
static void four(const wl_matrix_t *m, const wl_word *columns, int8_t *out)
{
    const size_t code = 52, steps = m->depth4 / 2;
    const wl_four_t f = {
        m->weights, m->requant, columns, (8u - steps % 8u) % 8u * code,
        columns + 4 * steps, 2 * m->out.zero + 1, out, m->channels, m->channels,
    };
    wl_four_m4(&f);
}
#else
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

/* The four pixels of a channel, upwards or downwards. */
#define WL_PUT(to, step, s, w, x, y, z)                                                           \
    do {                                                                                          \
        to[0] = wl_shortly(w, &s, 0);                                                             \
        to += step;                                                                               \
        to[0] = wl_shortly(x, &s, 0);                                                             \
        to += step;                                                                               \
        to[0] = wl_shortly(y, &s, 0);                                                             \
        to += step;                                                                               \
        to[0] = wl_shortly(z, &s, 0);                                                             \
    } while (0)

static void four(const wl_matrix_t *m, const wl_word *columns, int8_t *out)
{
    const int8_t *weights = m->weights;
    const wl_requant_t *r = m->requant;
    const ptrdiff_t step = (ptrdiff_t)m->channels;

    for (size_t left = m->channels;; left -= 2, r += 2, out += 2) {
        const wl_word *words = columns;
        int32_t a0 = r[0].bias, a1 = a0, a2 = a0, a3 = a0;
        int32_t b0 = r[1].bias, b1 = b0, b2 = b0, b3 = b0;
        wl_short_t s;
        int8_t *to = out;

        for (size_t i = m->depth4 / 4; i > 0; i--)
            WL_STEPS2;
        s = wl_short_of(&r[0], &m->out, 0);
        WL_PUT(to, step, s, a0, a1, a2, a3);
        if (left == 1)
            return;
        s = wl_short_of(&r[1], &m->out, 0);
        to++;
        WL_PUT(to, -step, s, b3, b2, b1, b0);
        if (left == 2)
            return;
    }
}
#endif

/* Few layers need the long way: clamps that the code does not imply, or factors above 1/2. */
void wl_matrix_four(const wl_matrix_t *m, const void *columns, int8_t *out)
{
    if (m->is_short)
        four(m, columns, out);
    else
        for (size_t i = 0; i < 4; i++)
            one(m, (const wl_word *)columns + i * WL_PER_WORD, 4 * WL_PER_WORD,
                out + i * m->channels);
}
