/* SPDX-License-Identifier: Apache-2.0 */
#include "wl_cbor.h"

#define DEPTH_MAX 4u
#define UNBOUNDED 31u /* the number of items is not told; 0xff ends them */
#define BREAK 0xffu
#define FALSE_BYTE 0xf4u

typedef struct {
    const uint8_t *at, *end;
} input;

/* Type and number of the next item, and a string's bytes; 0 if they are not whole. */
static int next(input *in, wl_cbor_item *item)
{
    if (in->at == in->end)
        return 0;
    uint32_t extra = *in->at & 31u;
    item->type = *in->at++ >> 5;
    item->number = extra;
    if (extra >= 24) {
        uint32_t count = 1u << (extra - 24u);
        if (extra > 27 || count > (size_t)(in->end - in->at))
            return 0;
        for (item->number = 0; count > 0; count--, in->at++)
            item->number = item->number >> 24 ? UINT32_MAX : item->number << 8 | *in->at;
    }
    item->bytes = in->at;
    if (item->type != WL_CBOR_BYTES && item->type != WL_CBOR_TEXT)
        return 1;
    if (item->number > (size_t)(in->end - in->at))
        return 0;
    in->at += item->number;
    return 1;
}

/* Whether an array or map of unknown length begins here; if so, past its first byte. */
static int is_unbounded(input *in, enum wl_cbor_type type)
{
    if (in->at == in->end || *in->at != ((uint32_t)type << 5 | UNBOUNDED))
        return 0;
    in->at++;
    return 1;
}

static int ends(input *in)
{
    if (in->at == in->end || *in->at != BREAK)
        return 0;
    in->at++;
    return 1;
}

/* Past one item with all that is in it. */
static int skip(input *in, uint32_t depth)
{
    wl_cbor_item item = {WL_CBOR_ARRAY, UINT32_MAX, NULL};
    const int unbounded = is_unbounded(in, WL_CBOR_ARRAY) || is_unbounded(in, WL_CBOR_MAP);

    if (!unbounded && !next(in, &item))
        return 0;
    if (item.type == WL_CBOR_TAG)
        item.number = 1;
    else if (item.type != WL_CBOR_ARRAY && item.type != WL_CBOR_MAP)
        return 1;
    if (depth == DEPTH_MAX)
        return 0;
    for (uint32_t i = 0; i < item.number; i++) {
        if (unbounded && ends(in))
            return 1;
        if (!skip(in, depth + 1u) || (item.type == WL_CBOR_MAP && !skip(in, depth + 1u)))
            return 0;
    }
    return 1;
}

/* Into a map: its pairs, UINT32_MAX if it says where it ends instead. */
static int enter(input *in, uint32_t *pairs)
{
    wl_cbor_item item;

    *pairs = UINT32_MAX;
    if (is_unbounded(in, WL_CBOR_MAP))
        return 1;
    if (!next(in, &item) || item.type != WL_CBOR_MAP || item.number == UINT32_MAX)
        return 0;
    *pairs = item.number;
    return 1;
}

int wl_cbor_is_map(const uint8_t *data, size_t size)
{
    input in = {data, data + size};
    wl_cbor_item key;
    uint32_t pairs;

    if (!enter(&in, &pairs))
        return 0;
    for (uint32_t i = 0; i < pairs; i++) {
        if (pairs == UINT32_MAX && ends(&in))
            break;
        if (!next(&in, &key) || key.type != WL_CBOR_TEXT || !skip(&in, 1))
            return 0;
    }
    return in.at == in.end;
}

static int same(const wl_cbor_item *item, const char *text)
{
    for (uint32_t i = 0; i < item->number; i++)
        if (text[i] == 0 || (uint8_t)text[i] != item->bytes[i])
            return 0;
    return text[item->number] == 0;
}

int wl_cbor_find(const uint8_t *data, size_t size, const char *key, enum wl_cbor_type type,
                 wl_cbor_item *item)
{
    input in = {data, data + size};
    uint32_t pairs;

    if (!enter(&in, &pairs))
        return 0;
    for (; pairs > 0 && !ends(&in) && next(&in, item); pairs--) {
        if (same(item, key))
            return next(&in, item) && item->type == type;
        if (!skip(&in, 1))
            return 0;
    }
    return 0;
}

static void put_byte(wl_cbor_out *out, uint32_t byte)
{
    if (out->size == out->capacity)
        out->full = 1;
    else
        out->data[out->size++] = (uint8_t)byte;
}

void wl_cbor_put(wl_cbor_out *out, enum wl_cbor_type type, uint32_t number)
{
    const uint32_t first = (uint32_t)type << 5;
    uint32_t bytes = number < 24 ? 0 : number < 0x100u ? 1 : number < 0x10000u ? 2 : 4;

    put_byte(out, first | (bytes == 0 ? number : 23u + (bytes == 4 ? 3u : bytes)));
    while (bytes-- > 0)
        put_byte(out, number >> 8u * bytes);
}

void wl_cbor_put_string(wl_cbor_out *out, enum wl_cbor_type type, const uint8_t *data, size_t size)
{
    wl_cbor_put(out, type, (uint32_t)size);
    for (size_t i = 0; i < size; i++)
        put_byte(out, data[i]);
}

void wl_cbor_put_text(wl_cbor_out *out, const char *text)
{
    size_t size = 0;

    while (text[size] != 0)
        size++;
    wl_cbor_put_string(out, WL_CBOR_TEXT, (const uint8_t *)text, size);
}

void wl_cbor_put_bool(wl_cbor_out *out, int value)
{
    put_byte(out, FALSE_BYTE + (value != 0));
}
