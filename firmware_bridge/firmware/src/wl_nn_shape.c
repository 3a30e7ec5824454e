/* SPDX-License-Identifier: Apache-2.0 */
/* Addition, concatenation, padding, lookup. */
#include "wl_nn_core.h"

#define ADD_LEFT 20

int wl_add_valid(const wl_add_t *p)
{
    for (size_t i = 0; i < 3; i++)
        if (p->requant[i].bias < -128 || p->requant[i].bias > 127 || p->requant[i].shift > 0)
            return 0;
    return wl_requant_valid(p->requant, 3) && p->act_min <= p->act_max;
}

void wl_add(const wl_add_t *p, const int8_t *first, const int8_t *second, int8_t *out)
{
    const wl_requant_t a = p->requant[0], b = p->requant[1];
    const wl_out_t to = {p->requant[2].bias, p->act_min, p->act_max};
    for (uint32_t i = 0; i < p->count; i++) {
        const int32_t x = (first[i] - a.bias) * (1 << ADD_LEFT);
        const int32_t y = (second[i] - b.bias) * (1 << ADD_LEFT);
        const int32_t sum = wl_scaled(x, a.multiplier, (uint32_t)-a.shift) +
                            wl_scaled(y, b.multiplier, (uint32_t)-b.shift);
        out[i] = wl_exact(sum, &p->requant[2], &to);
    }
}

static void copy(const int8_t *from, size_t count, int8_t *to)
{
    for (; count >= 4; count -= 4, from += 4, to += 4)
        wl_store32(to, wl_load32(from));
    for (; count > 0; count--)
        *to++ = *from++;
}

static int8_t *fill(int8_t *to, size_t count, int8_t value)
{
    const uint32_t four = (uint8_t)value * 0x01010101u;
    for (; count >= 4; count -= 4, to += 4)
        wl_store32(to, four);
    for (; count > 0; count--)
        *to++ = value;
    return to;
}

int wl_concat_valid(const wl_concat_t *p)
{
    return p->pixels > 0 && p->in_c > 0 && (uint32_t)p->offset + p->in_c <= p->out_c;
}

void wl_concat(const wl_concat_t *p, const int8_t *in, int8_t *out)
{
    out += p->offset;
    for (uint32_t i = 0; i < p->pixels; i++, in += p->in_c, out += p->out_c)
        copy(in, p->in_c, out);
}

int wl_pad_valid(const wl_pad_t *p)
{
    return p->in_h > 0 && p->in_w > 0 && p->in_c > 0 &&
           (uint32_t)p->top + p->in_h <= p->out_h && (uint32_t)p->left + p->in_w <= p->out_w &&
           (uint32_t)p->front + p->in_c <= p->out_c;
}

void wl_pad(const wl_pad_t *p, const int8_t *in, int8_t *out)
{
    const size_t line = (size_t)p->out_w * p->out_c, c = p->in_c;
    const size_t after = (size_t)p->out_c - p->front - c;

    out = fill(out, p->top * line, p->value);
    for (uint32_t y = 0; y < p->in_h; y++) {
        out = fill(out, (size_t)p->left * p->out_c, p->value);
        for (uint32_t x = 0; x < p->in_w; x++, in += c) {
            out = fill(out, p->front, p->value);
            copy(in, c, out);
            out = fill(out + c, after, p->value);
        }
        out = fill(out, ((size_t)p->out_w - p->left - p->in_w) * p->out_c, p->value);
    }
    fill(out, ((size_t)p->out_h - p->top - p->in_h) * line, p->value);
}

void wl_lookup(const int8_t *table, size_t count, const int8_t *in, int8_t *out)
{
    for (size_t i = 0; i < count; i++)
        out[i] = table[in[i] + 128];
}
