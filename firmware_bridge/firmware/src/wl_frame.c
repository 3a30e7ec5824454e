/* SPDX-License-Identifier: Apache-2.0 */
#include "wl_frame.h"

#define COBS_FULL 255u

uint32_t wl_crc32(uint32_t crc, const uint8_t *data, size_t size)
{
    /* By nibbles: 64 bytes of table instead of 1 kB, and half the speed. */
    static const uint32_t table[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u,
        0x4db26158u, 0x5005713cu, 0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu,
        0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu};

    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ table[crc & 15u];
        crc = crc >> 4 ^ table[crc & 15u];
    }
    return ~crc;
}

void wl_copy(uint8_t *to, const uint8_t *from, size_t size)
{
    while (size-- > 0)
        *to++ = *from++;
}

void wl_parser_init(wl_parser *parser, uint8_t *data, size_t capacity)
{
    parser->data = data;
    parser->capacity = capacity;
    wl_parser_reset(parser);
}

void wl_parser_reset(wl_parser *parser)
{
    parser->size = 0;
    parser->left = parser->pending = parser->bad = 0;
}

static void append(wl_parser *parser, uint8_t byte)
{
    if (parser->size == parser->capacity)
        parser->bad = 1;
    else
        parser->data[parser->size++] = byte;
}

static size_t finish(const wl_parser *parser)
{
    if (parser->bad || parser->left != 0 || parser->size < WL_FRAME_OVERHEAD)
        return 0;
    size_t size = parser->size - WL_CRC_BYTES;
    if (parser->data[3] != 0 || wl_get_u32(parser->data + size) != wl_crc32(0, parser->data, size))
        return 0;
    return size;
}

size_t wl_parser_push(wl_parser *parser, uint8_t byte)
{
    size_t size = 0;

    if (byte == 0) {
        size = finish(parser);
        wl_parser_reset(parser);
    } else if (parser->bad) {
        /* Until the next delimiter nothing makes sense. */
    } else if (parser->left == 0) {
        if (parser->pending)
            append(parser, 0);
        parser->left = (uint8_t)(byte - 1u);
        parser->pending = byte != COBS_FULL;
    } else {
        append(parser, byte);
        parser->left--;
    }
    return size;
}

size_t wl_frame_seal(uint8_t *data, size_t size)
{
    wl_put_u32(data + size, wl_crc32(0, data, size));
    return size + WL_CRC_BYTES;
}

void wl_frame_emit(const uint8_t *data, size_t size, wl_emit emit, void *context)
{
    static const uint8_t delimiter = 0;
    size_t at = 0;

    emit(context, &delimiter, 1);
    for (;;) {
        size_t end = at;
        while (end < size && end - at < COBS_FULL - 1u && data[end] != 0)
            end++;
        uint8_t code = (uint8_t)(end - at + 1u);
        emit(context, &code, 1);
        emit(context, data + at, end - at);
        at = end;
        if (at == size)
            break;
        if (code != COBS_FULL)
            at++; /* the zero that the block stands for; one at the very end gets a block too */
    }
    emit(context, &delimiter, 1);
}
