/* SPDX-License-Identifier: Apache-2.0 */
#include "wl_smp_line.h"

#define FIRST 0x06u
#define FIRST_SECOND 0x09u
#define NEXT 0x04u
#define NEXT_SECOND 0x14u
#define LINE_BYTES 93u /* 124 characters, with three around them 127 */

enum state {
    NOISE,   /* until a line begins */
    OPENS,   /* behind 06 */
    GOES_ON, /* behind 04 */
    BODY,
    BETWEEN  /* lines of a message that is not whole */
};

static uint16_t crc16(const uint8_t *data, size_t size)
{
    uint32_t crc = 0;

    for (size_t i = 0; i < size; i++) {
        crc ^= (uint32_t)data[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 0x8000u ? crc << 1 ^ 0x1021u : crc << 1;
    }
    return (uint16_t)crc;
}

static uint32_t get_u16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static void put_u16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

void wl_smp_line_init(wl_smp_line *line, uint8_t *data, size_t capacity)
{
    line->data = data;
    line->capacity = capacity;
    line->size = 0;
    line->state = NOISE;
}

/* Six bits of a character, or 64. */
static uint32_t six_bits(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)c - 'A';
    if (c >= 'a' && c <= 'z')
        return (uint32_t)c - 'a' + 26u;
    if (c >= '0' && c <= '9')
        return (uint32_t)c - '0' + 52u;
    return c == '+' ? 62u : c == '/' ? 63u : 64u;
}

static uint8_t character(uint32_t bits)
{
    static const char text[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    return (uint8_t)text[bits & 63u];
}

/* What a line's end leaves: a message, the wait for its next line, or nothing. */
static size_t end_line(wl_smp_line *line)
{
    const uint8_t *data = line->data;

    line->state = BETWEEN;
    if (line->size < WL_SMP_FRONT || line->size < WL_SMP_FRONT + get_u16(data))
        return 0;
    const size_t size = line->size - WL_SMP_FRONT;
    line->state = NOISE;
    if (size != get_u16(data) || size < 2 ||
        crc16(data + WL_SMP_FRONT, size - 2u) != get_u16(data + size))
        return 0;
    return size - 2u;
}

static void take_character(wl_smp_line *line, uint8_t byte)
{
    const uint32_t bits = six_bits(byte);

    if (byte == '=' || byte == '\r')
        return;
    if (bits > 63) {
        line->state = NOISE;
        return;
    }
    line->word = line->word << 6 | bits;
    line->held = (uint8_t)(line->held + 6u);
    if (line->held < 8)
        return;
    line->held = (uint8_t)(line->held - 8u);
    if (line->size == line->capacity)
        line->state = NOISE;
    else
        line->data[line->size++] = (uint8_t)(line->word >> line->held);
}

size_t wl_smp_line_push(wl_smp_line *line, uint8_t byte)
{
    if (byte == FIRST || (byte == NEXT && line->state == BETWEEN)) {
        line->state = byte == FIRST ? OPENS : GOES_ON;
    } else if (line->state == OPENS || line->state == GOES_ON) {
        const int opens = line->state == OPENS;
        line->state = byte == (opens ? FIRST_SECOND : NEXT_SECOND) ? BODY : NOISE;
        line->held = 0;
        if (opens)
            line->size = 0;
    } else if (line->state == BODY) {
        if (byte == '\n')
            return end_line(line);
        take_character(line, byte);
    } else if (byte != '\r' && byte != '\n') {
        line->state = NOISE;
    }
    return 0;
}

/* `size` bytes, up to LINE_BYTES, as one line. */
static void send_line(const uint8_t *data, size_t size, int first,
                      void (*write)(const uint8_t *data, size_t size))
{
    uint8_t text[LINE_BYTES / 3u * 4u + 3u];
    size_t at = 0;

    text[at++] = first ? FIRST : NEXT;
    text[at++] = first ? FIRST_SECOND : NEXT_SECOND;
    for (size_t i = 0; i < size; i += 3) {
        const size_t left = size - i;
        const uint32_t word = (uint32_t)data[i] << 16 |
                              (left > 1 ? (uint32_t)data[i + 1] << 8 : 0) |
                              (left > 2 ? (uint32_t)data[i + 2] : 0);
        text[at++] = character(word >> 18);
        text[at++] = character(word >> 12);
        text[at++] = left > 1 ? character(word >> 6) : (uint8_t)'=';
        text[at++] = left > 2 ? character(word) : (uint8_t)'=';
    }
    text[at++] = '\n';
    write(text, at);
}

void wl_smp_line_send(uint8_t *data, size_t size, void (*write)(const uint8_t *data, size_t size))
{
    const size_t whole = size + WL_SMP_AROUND;

    put_u16(data, (uint32_t)size + 2u);
    put_u16(data + WL_SMP_FRONT + size, crc16(data + WL_SMP_FRONT, size));
    for (size_t at = 0; at < whole; at += LINE_BYTES)
        send_line(data + at, whole - at < LINE_BYTES ? whole - at : LINE_BYTES, at == 0, write);
}
