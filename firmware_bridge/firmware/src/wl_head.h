/* SPDX-License-Identifier: Apache-2.0 */
/* The interpreter: input, layers, waist; one head at a time. */
#ifndef WL_HEAD_H
#define WL_HEAD_H

#include "wl_blob.h"

#define WL_ALL_LAYERS 0xffffu

enum wl_mark { WL_MARK_OFF = 0, WL_MARK_HEAD = 1, WL_MARK_LAYERS = 2, WL_MARK_PULSES = 3 };

typedef struct {
    const wl_blob *blob; /* checked; NULL: none */
    uint8_t *arena;
    uint32_t arena_bytes, tick_hz;
    uint32_t input_got; /* bytes of input loaded, in order */
    uint8_t mark;
    uint16_t settle_us;
    uint32_t output_bytes; /* of the last run; 0: none */
    uint32_t ticks[WL_BLOB_COUNT_MAX + 1u];
} wl_head;

/* Take `blob` (NULL: none) and forget input and output of the one before. */
void wl_head_set(wl_head *head, const wl_blob *blob);

/* Whether a loaded input outlives a run. */
int wl_head_keeps_input(const wl_head *head);

/* Store input bytes: at 0, or where the last ended. Returns a wl_status; *detail as for LOAD. */
int wl_head_input(wl_head *head, uint32_t offset, const uint8_t *data, uint32_t size,
                  uint32_t *detail);

/* CRC-32 of input bytes as they are read back. */
uint32_t wl_head_input_crc(const wl_head *head, uint32_t offset, uint32_t size);

/*
 * Run the first `layers` layers on the loaded input, or on golden `golden` if that is not negative,
 * and encode the waist if that is all of them. Returns a wl_status.
 */
int wl_head_run(wl_head *head, int golden, uint32_t layers);

#endif
