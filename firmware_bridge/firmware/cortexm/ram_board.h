/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A board whose receiver interrupts for each byte and whose slots are RAM. A board.c defines
 * BOARD_NAME, CLOCK_HZ and, in bytes, ARENA_BYTES, SLOT_BYTES, SECOND_BYTES (of slot 1), MAX_PAYLOAD and
 * RING_BYTES (more than the longest frame on the line), then includes this.
 */
#include "cortexm.h"
#include "wl_frame.h"

#define PAGE_BYTES 1024u

static uint8_t arena[ARENA_BYTES] BIG;
static uint8_t slots[SLOT_BYTES + SECOND_BYTES] BIG;
static uint8_t frames[2u * (MAX_PAYLOAD + WL_FRAME_OVERHEAD)] BIG;
static uint8_t ring[RING_BYTES] BIG;

static const wl_flash flash = {slots,
                               SLOT_BYTES,
                               PAGE_BYTES,
                               4,
                               cortexm_ram_erase,
                               cortexm_ram_program,
                               SECOND_BYTES};
static wl_board board = {.name = BOARD_NAME,
                         .features = WL_FEATURE_EMULATED,
                         .tick_hz = CLOCK_HZ,
                         .arena = arena,
                         .arena_bytes = ARENA_BYTES,
                         .flash = &flash,
                         .frames = frames,
                         .max_payload = MAX_PAYLOAD};
