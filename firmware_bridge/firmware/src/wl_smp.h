/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The update mode: PROTOCOL.md section 7. A small server of the Simple Management Protocol that
 * stock MCUmgr clients drive; its one image is the head. In firmware built with WL_SMP only.
 */
#ifndef WL_SMP_H
#define WL_SMP_H

#include "board.h"
#include "wl_frame.h"
#include "wl_sha256.h"
#include "wl_slots.h"
#include "wl_smp_line.h"

#ifndef WL_SMP
#define WL_SMP 0
#endif

#define WL_SMP_BRIDGE_BYTES 72u /* the longest PING with its header and CRC */

typedef struct {
    const wl_board *board;
    wl_slots *slots;
    wl_smp_line line;
    wl_parser parser; /* of the bridge */
    uint8_t bridge[WL_SMP_BRIDGE_BYTES];
    uint32_t length; /* of the head that is being sent; 0: none */
    uint8_t sha[WL_SHA256_BYTES];
    int has_sha;
} wl_smp;

/* Begin; board->frames are its own until it is over. */
void wl_smp_begin(wl_smp *smp, const wl_board *board, wl_slots *slots);

/*
 * Take one byte of the line. Not 0: a frame of the bridge came, so the update mode is over; its header
 * and payload have so many bytes, and lie in smp->bridge with their CRC.
 */
size_t wl_smp_take(wl_smp *smp, uint8_t byte);

#endif
