/* SPDX-License-Identifier: Apache-2.0 */
/* What a board gives to the firmware: one folder under boards/ each. */
#ifndef BOARD_H
#define BOARD_H

#include <stddef.h>
#include <stdint.h>

#include "wl_slots.h"

/* Features of INFO that a board decides. */
#define WL_FEATURE_FPU 1u
#define WL_FEATURE_DSP 2u
#define WL_FEATURE_MVE 4u
#define WL_FEATURE_CYCLES 8u
#define WL_FEATURE_KEEPS 16u
#define WL_FEATURE_MARKER 32u
#define WL_FEATURE_EMULATED 64u
/* The build decides this one. */
#define WL_FEATURE_SMP 128u

typedef struct {
    const char *name; /* at most 23 characters */
    uint32_t cpuid, features, tick_hz;
    uint8_t *arena; /* divisible by 16 */
    uint32_t arena_bytes;
    const wl_flash *flash;
    uint8_t *frames; /* 2 * (max_payload + WL_FRAME_OVERHEAD) bytes, for a request and a reply */
    uint32_t max_payload;
} wl_board;

/* Bring everything up; called once. */
const wl_board *board_init(void);

/* Bytes that have arrived, up to `size`; 0 if none. */
size_t board_read(uint8_t *data, size_t size);

/* Sleep until something may have arrived. */
void board_wait(void);

/* Send; returns when it is queued or gone. */
void board_write(const uint8_t *data, size_t size);

/* Count ticks from 0, in the same phase each time. */
void board_ticks_start(void);

/* Ticks since board_ticks_start; 0xffffffff: more. */
uint32_t board_ticks(void);

/* Marker pin high or low. */
void board_mark(int high);

/* Bytes of stack never used so far; 0xffffffff: not known. */
uint32_t board_stack_free(void);

/* Start again, once what was written has left. Does not return, but on boards under test. */
void board_reset(void);

#endif
