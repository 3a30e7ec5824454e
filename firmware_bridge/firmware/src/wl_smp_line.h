/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SMP on a serial line, as MCUmgr has it: a message between its length (u16, big-endian) and its
 * CRC-16 (XMODEM), all of that in base64 on lines of at most 127 bytes. The first begins with 06 09, those
 * that follow with 04 14.
 */
#ifndef WL_SMP_LINE_H
#define WL_SMP_LINE_H

#include <stddef.h>
#include <stdint.h>

#define WL_SMP_FRONT 2u /* of the length, in front of the message */
#define WL_SMP_AROUND 4u

typedef struct {
    uint8_t *data; /* the caller's, capacity bytes */
    size_t capacity, size;
    uint32_t word; /* bits decoded that make no byte yet, their number */
    uint8_t held, state;
} wl_smp_line;

void wl_smp_line_init(wl_smp_line *line, uint8_t *data, size_t capacity);

/* Take one byte; returns the bytes of the message, at data + WL_SMP_FRONT, if it ended a sound one. */
size_t wl_smp_line_push(wl_smp_line *line, uint8_t byte);

/* Send `size` bytes of message that lie at data + WL_SMP_FRONT; 2 bytes behind them are written. */
void wl_smp_line_send(uint8_t *data, size_t size,
                      void (*write)(const uint8_t *data, size_t size));

#endif
