/* SPDX-License-Identifier: Apache-2.0 */
/* Frames: PROTOCOL.md section 1. Bytes in, frames out, and the reverse; no I/O, no allocation. */
#ifndef WL_FRAME_H
#define WL_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define WL_HEADER_BYTES 4u
#define WL_CRC_BYTES 4u
#define WL_FRAME_OVERHEAD (WL_HEADER_BYTES + WL_CRC_BYTES)

/* CRC-32 of `size` more bytes behind data whose CRC-32 is `crc` (0: of nothing), as zlib has it. */
uint32_t wl_crc32(uint32_t crc, const uint8_t *data, size_t size);

static inline uint32_t wl_get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint16_t wl_get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] | at[1] << 8);
}

static inline void wl_put_u32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
    at[2] = (uint8_t)(value >> 16);
    at[3] = (uint8_t)(value >> 24);
}

static inline void wl_put_u16(uint8_t *at, uint16_t value)
{
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

void wl_copy(uint8_t *to, const uint8_t *from, size_t size);

typedef struct {
    uint8_t *data; /* the caller's, capacity bytes: header, payload, CRC of the frame so far */
    size_t capacity, size;
    uint8_t left;    /* bytes of the COBS block still to come */
    uint8_t pending; /* a zero follows the block unless the frame ends */
    uint8_t bad;
} wl_parser;

void wl_parser_init(wl_parser *parser, uint8_t *data, size_t capacity);

/* Forget the frame begun. */
void wl_parser_reset(wl_parser *parser);

/*
 * Take one byte. Returns the bytes of header and payload in parser->data if it ended a sound frame
 * (they last until the next call), else 0.
 */
size_t wl_parser_push(wl_parser *parser, uint8_t byte);

typedef void (*wl_emit)(void *context, const uint8_t *data, size_t size);

/* Write the CRC behind `size` bytes of header and payload; returns size + WL_CRC_BYTES. */
size_t wl_frame_seal(uint8_t *data, size_t size);

/* Send sealed bytes as a frame between two delimiters. */
void wl_frame_emit(const uint8_t *data, size_t size, wl_emit emit, void *context);

#endif
